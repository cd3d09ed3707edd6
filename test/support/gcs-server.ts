/**
 * A server of the Google Cloud Storage JSON API for tests, in this process, on loopback: listings in pages, ranges,
 * checksums, uploads in one request and in chunks, tokens. It is ours: no independent proof of compatibility.
 */

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { crc32c, encodeCrc32c } from '../../src/storage/gcs/crc32c.ts';

export type GcsOperation =
  'list' | 'get' | 'delete' | 'whole' | 'begin' | 'chunk' | 'ask' | 'cancel' | 'token';

export interface GcsRequest {
  readonly operation: GcsOperation;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
}

interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** How one request is treated. */
export type GcsFault =
  | 'pass'
  | 'reset'
  | 'stall'
  /** Does what was asked, then breaks the connection: the answer is lost. */
  | 'lose-answer'
  /** Takes so many bytes of the body into an upload (a multiple of 256 KiB), then breaks the connection. */
  | { readonly takeOnly: number }
  | Answer;

interface Stored {
  readonly data: Buffer;
  readonly crc32c: string;
  readonly generation: string;
  readonly timeCreated: string;
  readonly contentEncoding?: string;
}

interface Upload {
  readonly ifAbsent: boolean;
  readonly name: string;
  data: Buffer;
  stored?: Stored;
}

const GRANULE = 256 * 1024;

/** What an account may do: the permissions of Google's whose names begin with `storage.objects.`. To overwrite is to delete. */
export type GcsPermission = 'list' | 'get' | 'create' | 'delete';

export class GcsServer {
  readonly bucket = 'bucket';
  readonly objects: Map<string, Stored> = new Map<string, Stored>();
  readonly uploads: Map<string, Upload> = new Map<string, Upload>();
  readonly requests: GcsRequest[] = [];
  /** The token that requests must bear; undefined: none is looked at. */
  token: string | undefined;
  /** Answers of the emulated metadata server to a request for a token. */
  onToken: () => Answer = () => ({
    status: 200,
    body: JSON.stringify({ access_token: this.token, expires_in: 3600, token_type: 'Bearer' }),
  });
  /** Other requests are refused, in Google's words. */
  permissions: readonly GcsPermission[] = ['list', 'get', 'create', 'delete'];
  onRequest: (request: GcsRequest) => GcsFault = () => 'pass';
  /** Takes the first chunk of an upload for all of it, as Firebase's emulator does. */
  endsUploadsEarly = false;
  /** Changes what is stored, as a faulty store would. */
  corrupt: (data: Buffer) => Buffer = (data) => data;
  /** The most requests that were under way at once. */
  mostAtOnce = 0;
  #underWay = 0;
  readonly #server: Server;
  #count = 0;

  private constructor() {
    this.#server = createServer((message, response) => {
      this.#serve(message, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    });
  }

  static async start(): Promise<GcsServer> {
    const server = new GcsServer();
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', reject);
      server.#server.listen(0, '127.0.0.1', resolve);
    });
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  put(name: string, data: Buffer, contentEncoding?: string): Stored {
    const stored = {
      data,
      crc32c: encodeCrc32c(crc32c(data)),
      generation: String(++this.#count),
      timeCreated: new Date().toISOString(),
      ...(contentEncoding === undefined ? {} : { contentEncoding }),
    };
    this.objects.set(name, stored);
    return stored;
  }

  counts(): Partial<Record<GcsOperation, number>> {
    const counts: Partial<Record<GcsOperation, number>> = {};
    for (const { operation } of this.requests) counts[operation] = (counts[operation] ?? 0) + 1;
    return counts;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(message.url ?? '/', this.endpoint);
    if (url.pathname === '/computeMetadata/v1/instance') {
      send(response, { status: 200, headers: { 'metadata-flavor': 'Google' }, body: '{}' });
      return;
    }
    const operation = operationOf(message, url);
    const request = { operation, url, headers: message.headers };
    this.requests.push(request);
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.#underWay);
    response.once('close', () => this.#underWay--);
    const fault = this.onRequest(request);
    if (fault === 'stall') return;
    if (fault === 'reset') {
      message.socket.resetAndDestroy();
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of message) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    if (typeof fault === 'object' && 'takeOnly' in fault) {
      const upload = this.uploads.get(url.searchParams.get('upload_id') ?? '')!;
      upload.data = Buffer.concat([upload.data, body.subarray(0, fault.takeOnly)]);
      message.socket.resetAndDestroy();
      return;
    }
    if (typeof fault === 'object') {
      send(response, fault);
      return;
    }
    const answer = this.#answer(request, body);
    if (fault === 'lose-answer') message.socket.resetAndDestroy();
    else send(response, answer);
  }

  #answer({ operation, url, headers }: GcsRequest, body: Buffer): Answer {
    if (operation === 'token') {
      const answer = this.onToken();
      return { ...answer, headers: { 'metadata-flavor': 'Google', 'content-type': 'application/json' } };
    }
    const free = operation === 'chunk' || operation === 'ask' || operation === 'cancel';
    if (!free && this.token !== undefined && headers.authorization !== `Bearer ${this.token}`) {
      return refusal(401, 'authError', 'Invalid Credentials');
    }
    const [, bucket = '', object] = /\/b\/([^/]+)\/o(?:\/(.*))?$/.exec(url.pathname) ?? [];
    if (!free && decodeURIComponent(bucket) !== this.bucket) {
      return refusal(404, 'notFound', 'The specified bucket does not exist.');
    }
    const name = decodeURIComponent(object ?? '');
    if (operation === 'list' || operation === 'get' || operation === 'delete') {
      const refused = this.#refused(operation);
      if (refused !== undefined) return refused;
    }
    switch (operation) {
      case 'list':
        return this.#list(url.searchParams);
      case 'get':
        if (url.searchParams.get('alt') !== 'media' && this.objects.has(name))
          return json(this.#metadata(name));
        return this.#get(name, headers.range);
      case 'delete':
        if (!this.objects.delete(name)) return refusal(404, 'notFound', `No such object: bucket/${name}`);
        return { status: 204 };
      case 'whole':
        return this.#whole(headers['content-type'] ?? '', body, url.searchParams.get('ifGenerationMatch'));
      case 'begin': {
        const id = `secret-${++this.#count}`;
        const { name: wanted } = JSON.parse(body.toString()) as { name: string };
        const ifAbsent = url.searchParams.get('ifGenerationMatch') === '0';
        const refused = this.#refused('create');
        if (refused !== undefined) return refused;
        this.uploads.set(id, { name: wanted, data: Buffer.alloc(0), ifAbsent });
        const location = `http://${headers.host}/upload/storage/v1/b/${this.bucket}/o?uploadType=resumable&upload_id=${id}`;
        return { status: 200, headers: { location } };
      }
      default:
        return this.#continue(operation, url.searchParams.get('upload_id') ?? '', headers, body);
    }
  }

  #list(parameters: URLSearchParams): Answer {
    const prefix = parameters.get('prefix') ?? '';
    const delimiter = parameters.get('delimiter');
    const limit = Number(parameters.get('maxResults') ?? 1000);
    const after = parameters.get('pageToken');
    const entries = new Map<string, object | undefined>();
    for (const name of [...this.objects.keys()].filter((key) => key.startsWith(prefix)).sort()) {
      const end = delimiter === null ? -1 : name.indexOf(delimiter, prefix.length);
      if (end >= 0) entries.set(name.slice(0, end + 1), undefined);
      else entries.set(name, this.#metadata(name));
    }
    const rest = [...entries].filter(([name]) => after === null || name > after);
    const page = rest.slice(0, limit);
    const items = page.flatMap(([, item]) => item ?? []);
    const prefixes = page.flatMap(([name, item]) => (item === undefined ? name : []));
    return json({
      ...(items.length > 0 ? { items } : {}),
      ...(prefixes.length > 0 ? { prefixes } : {}),
      ...(rest.length > limit ? { nextPageToken: page.at(-1)?.[0] } : {}),
    });
  }

  #metadata(name: string): object {
    const { data, ...stored } = this.objects.get(name)!;
    return { name, size: String(data.length), ...stored };
  }

  #get(name: string, range: string | undefined): Answer {
    const stored = this.objects.get(name);
    if (stored === undefined) return { status: 404, body: `No such object: ${this.bucket}/${name}` };
    const { data } = stored;
    const md5 = createHash('md5').update(data).digest('base64');
    const headers = {
      'x-goog-hash': `crc32c=${stored.crc32c},md5=${md5}`,
      'x-goog-stored-content-encoding': stored.contentEncoding ?? 'identity',
    };
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
    if (first === undefined) return { status: 200, headers, body: this.corrupt(data) };
    if (Number(first) >= data.length) return { status: 416, body: 'Requested range not satisfiable' };
    const part = data.subarray(Number(first), last === '' ? undefined : Number(last) + 1);
    const end = Number(first) + part.length - 1;
    return {
      status: 206,
      headers: { ...headers, 'content-range': `bytes ${first}-${end}/${data.length}` },
      body: part,
    };
  }

  #whole(contentType: string, body: Buffer, generation: string | null): Answer {
    const boundary = /^multipart\/related; boundary=(\w+)$/.exec(contentType)?.[1];
    const mark = Buffer.from(`--${boundary}`);
    const second = body.indexOf(mark, mark.length);
    const third = body.indexOf(mark, second + mark.length);
    const [, content = ''] = body.subarray(0, second).toString().split('\r\n\r\n');
    const { name, crc32c: wanted } = JSON.parse(content) as { name: string; crc32c: string };
    const start = body.indexOf('\r\n\r\n', second) + 4;
    if (generation === '0' && this.objects.has(name)) return CONDITION_NOT_MET;
    return this.#store(name, this.corrupt(body.subarray(start, third - 2)), wanted);
  }

  #refused(permission: GcsPermission): Answer | undefined {
    if (this.permissions.includes(permission)) return undefined;
    const text = `a@b.example does not have storage.objects.${permission} access to the Google Cloud Storage object.`;
    return refusal(403, 'forbidden', text);
  }

  #store(name: string, data: Buffer, wanted: string | undefined): Answer {
    const refused = this.#refused('create') ?? (this.objects.has(name) ? this.#refused('delete') : undefined);
    if (refused !== undefined) return refused;
    const actual = encodeCrc32c(crc32c(data));
    if (wanted !== undefined && wanted !== actual) {
      return refusal(
        400,
        'invalid',
        `Provided CRC32C "${wanted}" doesn't match calculated CRC32C "${actual}".`,
      );
    }
    this.put(name, data);
    return json(this.#metadata(name));
  }

  #continue(operation: GcsOperation, id: string, headers: IncomingHttpHeaders, body: Buffer): Answer {
    const upload = this.uploads.get(id);
    if (upload === undefined) return { status: 404, body: 'Not Found' };
    if (operation === 'cancel') {
      this.uploads.delete(id);
      return { status: 499 };
    }
    if (upload.stored !== undefined) return json(this.#metadata(upload.name));
    const [, from, total] = /^bytes (?:\*|(\d+)-\d+)\/(\*|\d+)$/.exec(headers['content-range'] ?? '') ?? [];
    if (from !== undefined && Number(from) !== upload.data.length) return { status: 503 };
    upload.data = Buffer.concat([upload.data, body]);
    if (total === String(upload.data.length) || this.endsUploadsEarly) {
      if (upload.ifAbsent && this.objects.has(upload.name)) return CONDITION_NOT_MET;
      const wanted = /crc32c=(\S+)/.exec(String(headers['x-goog-hash']))?.[1];
      const answer = this.#store(upload.name, this.corrupt(upload.data), wanted);
      upload.stored = this.objects.get(upload.name)!;
      return answer;
    }
    if (body.length % GRANULE !== 0) return refusal(400, 'invalid', 'chunks must be multiples of 256 KiB');
    const { length } = upload.data;
    return { status: 308, headers: length === 0 ? {} : { range: `bytes=0-${length - 1}` } };
  }
}

const CONDITION_NOT_MET: Answer = refusal(412, 'conditionNotMet', 'At least one condition did not hold.');

function operationOf(
  { method = '', headers }: IncomingMessage,
  { pathname, searchParams }: URL,
): GcsOperation {
  if (pathname.startsWith('/computeMetadata/')) return 'token';
  if (searchParams.has('upload_id')) {
    if (method === 'DELETE') return 'cancel';
    return headers['content-range']?.startsWith('bytes *') === true ? 'ask' : 'chunk';
  }
  if (method === 'POST') return searchParams.get('uploadType') === 'multipart' ? 'whole' : 'begin';
  if (method === 'DELETE') return 'delete';
  return pathname.endsWith('/o') ? 'list' : 'get';
}

function json(value: unknown): Answer {
  return { status: 200, headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) };
}

/** A refusal as Google writes it. */
export function refusal(code: number, reason: string, message: string): Answer {
  const error = { code, message, errors: [{ message, domain: 'global', reason }] };
  return { status: code, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ error }) };
}

function send(response: ServerResponse, { status, headers = {}, body = '' }: Answer): void {
  response.writeHead(status, { 'content-length': Buffer.byteLength(body), ...headers }).end(body);
}
