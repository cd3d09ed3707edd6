/** A hostile store at the other end of a wire: an S3 server on loopback that lies as it is told to. */

import type { ErrorCode } from '../../src/base/errors.ts';
import { document, texts, type Xml } from '../support/s3/xml.ts';
import { S3Server, type Bucket, type Fault, type S3Operation, type S3Request } from '../support/s3-server.ts';
import { s3Environment, s3Replica } from '../e2e/s3-rig.ts';
import type { BodyLie, Holdings, Lies, Listed, Operation } from './lie.ts';
import type { TrueObject } from './truth.ts';

const ROOT = 'db/';
const PAGE = 1000;

/** How the codes come over the wire. */
const STATUSES: Readonly<Record<ErrorCode, readonly [number, string]>> = {
  'not-found': [404, 'NoSuchKey'],
  exists: [412, 'PreconditionFailed'],
  permission: [403, 'AccessDenied'],
  unavailable: [503, 'SlowDown'],
  timeout: [408, 'RequestTimeout'],
  corrupt: [200, 'InternalError'],
  busy: [409, 'OperationAborted'],
  'disk-full': [507, 'InsufficientStorage'],
  unsupported: [501, 'NotImplemented'],
  io: [400, 'MalformedXML'],
  aborted: [499, 'ClientClosed'],
  encrypted: [400, 'InvalidRequest'],
  gap: [410, 'Gone'],
  'no-backup': [404, 'NoSuchBucket'],
  usage: [400, 'InvalidArgument'],
  config: [301, 'PermanentRedirect'],
};

const SKIPPED = Buffer.alloc(64 << 10);
SKIPPED.writeUInt32LE(0x184d2a50, 0);
SKIPPED.writeUInt32LE(SKIPPED.length - 8, 4);

function operationOf(operation: S3Operation): Operation | undefined {
  switch (operation) {
    case 'ListObjects':
    case 'ListObjectsV2':
      return 'list';
    case 'GetObject':
      return 'get';
    case 'HeadObject':
      return 'stat';
    case 'PutObject':
    case 'CreateMultipartUpload':
    case 'UploadPart':
    case 'CompleteMultipartUpload':
      return 'put';
    case 'DeleteObject':
    case 'DeleteObjects':
      return 'delete';
    default:
      return undefined;
  }
}

function refusal(code: ErrorCode): Fault {
  const [status, name] = STATUSES[code];
  const message = 'the hostile store says \u009b2J\u202e so';
  const body = document('Error', [
    ['Code', name],
    ['Message', message],
  ]);
  return { status, headers: { 'content-type': 'application/xml' }, body };
}

export class HostileServer {
  readonly server: S3Server;
  #lies: Lies | undefined;
  #lists = 0;
  /** Lists that are given in pages, by their number. */
  readonly #pages = new Map<string, readonly Listed[]>();
  /** Asked first, for what only a wire can do. */
  onWire: (request: S3Request) => Fault | undefined = () => undefined;
  /** Called with the keys of a deletion before it is done. */
  onDelete: (keys: readonly string[]) => void = () => undefined;
  /** Called when an object was put. */
  onStored: (key: string, object: TrueObject) => void = () => undefined;

  private constructor(server: S3Server) {
    this.server = server;
  }

  static async start(held: Holdings, lies: Lies | undefined): Promise<HostileServer> {
    const hostile = new HostileServer(await S3Server.start());
    for (const [key, { data, modifiedAt }] of held)
      hostile.bucket.put(ROOT + key, data, undefined, modifiedAt);
    hostile.#lies = lies;
    hostile.server.onRequest = (request) => hostile.#answer(request);
    hostile.server.onAnswer = (request) => hostile.#stored(request);
    hostile.server.beforeAnswer = ({ operation }, body) => {
      if (operation === 'DeleteObjects')
        hostile.onDelete(texts(body.toString(), 'Key').map((key) => key.slice(ROOT.length)));
      return Promise.resolve();
    };
    return hostile;
  }

  readonly #lose = new Set<string>();

  get bucket(): Bucket {
    return this.server.bucket();
  }

  get config(): string[] {
    return s3Replica(this.server.endpoint);
  }

  get env(): Record<string, string> {
    return s3Environment(this.server);
  }

  /** Lies like this from now on; undefined: no more. */
  lie(lies: Lies | undefined): void {
    this.#lies = lies;
  }

  /** What it holds, by the names of a replica. */
  held(): Holdings {
    return new Map(
      this.bucket
        .keys()
        .filter((key) => key.startsWith(ROOT))
        .map((key) => [key.slice(ROOT.length), this.bucket.get(key)]),
    );
  }

  /** Puts what is not there, and what is different. */
  put(held: Holdings): void {
    for (const [key, { data, modifiedAt }] of held) {
      const name = ROOT + key;
      if (this.bucket.has(name) && this.bucket.get(name).data === data) continue;
      this.bucket.put(name, data, undefined, modifiedAt);
    }
  }

  #answer(request: S3Request): Fault {
    const operation = operationOf(request.operation);
    const wired = this.onWire(request);
    if (wired !== undefined) return wired;
    const lies = this.#lies;
    if (operation === undefined || lies === undefined) return 'pass';
    const key = request.key.slice(ROOT.length);
    const code = lies.first((lie) => lie.fail?.(operation, key));
    if (code !== undefined) return refusal(code);
    if (operation === 'list') return this.#list(request, lies);
    if (operation === 'get') return this.#get(request, key, lies);
    if (operation === 'put' && request.operation === 'PutObject') return this.#put(request, key, lies);
    if (operation === 'delete' && lies.first((lie) => lie.deletes?.(2)) !== undefined) return 'lose-answer';
    return 'pass';
  }

  #stored({ operation, key }: S3Request): void {
    if (operation !== 'PutObject' && operation !== 'CompleteMultipartUpload') return;
    if (this.#lose.delete(key)) this.bucket.delete(key);
    else if (this.bucket.has(key)) this.onStored(key.slice(ROOT.length), this.bucket.get(key));
  }

  #put({ key: name }: S3Request, key: string, lies: Lies): Fault {
    const lie = lies.first((each) => each.put?.(key));
    if (lie === 'lost') this.#lose.add(name);
    return lie === 'done-and-fails' ? 'lose-answer' : 'pass';
  }

  #list({ query }: S3Request, lies: Lies): Fault {
    const [token, prefix] = [query.get('continuation-token'), query.get('prefix') ?? ''];
    const [name = '', start = '0'] = token?.split('-') ?? [];
    let listed = this.#pages.get(name);
    const id = listed ? name : `list${this.#lists}`;
    const ends = lies.first((lie) => lie.listEnds?.(this.#lists));
    if (ends) return refusal(ends.code);
    if (listed === undefined) {
      const all = this.bucket.keys().filter((key) => key.startsWith(prefix));
      const true_ = all.map((key) => {
        const { data, modifiedAt } = this.bucket.get(key);
        return { key: key.slice(ROOT.length), sizeBytes: data.length, modifiedAt };
      });
      listed = lies.list(true_, this.#lists++);
      this.#pages.set(id, listed);
    }
    const etagOf = (key: string): string =>
      this.bucket.has(ROOT + key) ? this.bucket.get(ROOT + key).etag : 'none';
    return listAnswer(query, listed, { id, start: Number(start), etagOf });
  }

  #get({ key: name, headers }: S3Request, key: string, lies: Lies): Fault {
    if (!this.bucket.has(name)) return 'pass';
    const { data, etag, modifiedAt } = this.bucket.get(name);
    const lie = lies.first((each) => each.body?.(key, data, this.held()));
    return lie
      ? bodyAnswer(lie, headers.range, { etag: `"${etag}"`, 'last-modified': modifiedAt.toUTCString() })
      : 'pass';
  }

  async close(): Promise<void> {
    await this.server.close();
  }
}

function bodyAnswer(lie: BodyLie, asked: string | undefined, common: Record<string, string>): Fault {
  const range = lie.whole === true ? null : /^bytes=(\d+)-(\d*)$/.exec(asked ?? '');
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(lie.data.length, Number(range[2]) + 1) : lie.data.length;
  const data = lie.data.subarray(start, Math.max(start, end));
  const sizeBytes = String(
    lie.sizeBytes === undefined ? data.length : Math.max(data.length, lie.sizeBytes - start),
  );
  const headers = {
    ...common,
    ...(range ? { 'content-range': `bytes ${start}-${Math.max(start, end - 1)}/${lie.data.length}` } : {}),
  };
  const status = range ? 206 : 200;
  if (lie.then === 'endless' && !range) {
    let first = true;
    const endless = (): Buffer => {
      const chunk = first && data.length > 0 ? data : SKIPPED;
      first = false;
      return chunk;
    };
    return { status, headers: { ...headers, 'content-length': String(Number.MAX_SAFE_INTEGER) }, endless };
  }
  if (lie.then === 'error') return { truncateAt: Math.min(data.length, 100) };
  return { status, headers: { ...headers, 'content-length': sizeBytes }, body: data };
}

function listAnswer(
  query: URLSearchParams,
  listed: readonly Listed[],
  from: { readonly id: string; readonly start: number; readonly etagOf: (key: string) => string },
): Fault {
  const { id, start, etagOf } = from;
  const [prefix, delimiter] = [query.get('prefix') ?? '', query.get('delimiter') ?? ''];
  const show = (text: string): string =>
    query.get('encoding-type') === 'url' ? encodeURIComponent(text).replaceAll('%2F', '/') : text;
  const entries: Xml[] = [];
  const rolled = new Set<string>();
  for (const { key, sizeBytes, modifiedAt } of listed) {
    const name = ROOT + key;
    const end = delimiter === '' ? -1 : name.indexOf(delimiter, prefix.length);
    if (end >= 0) {
      const common = name.slice(0, end + 1);
      if (!rolled.has(common)) entries.push(['CommonPrefixes', [['Prefix', show(common)]]]);
      rolled.add(common);
      continue;
    }
    const at = Number.isNaN(modifiedAt.getTime()) ? 'no time' : modifiedAt.toISOString();
    entries.push([
      'Contents',
      [
        ['Key', show(name)],
        ['LastModified', at],
        ['ETag', `"${etagOf(key)}"`],
        ['Size', sizeBytes],
      ],
    ]);
  }
  const page = entries.slice(start, start + PAGE);
  const next = start + PAGE;
  const isCut = next < entries.length;
  const content: Xml[] = [
    ['Name', 'bucket'],
    ['Prefix', show(prefix)],
    ['IsTruncated', isCut],
    ['KeyCount', page.length],
    ...page,
    ...(isCut ? [['NextContinuationToken', `${id}-${next}`] as Xml] : []),
  ];
  return {
    status: 200,
    headers: { 'content-type': 'application/xml' },
    body: document('ListBucketResult', content),
  };
}
