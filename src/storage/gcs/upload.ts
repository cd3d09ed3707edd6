/**
 * Uploads one body: in one request when it fits, else in the chunks of a resumable upload, each of which goes on where
 * the store says that it stopped. Published whole or not at all, and compared with its checksum.
 */

import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { LitestreamError, assert, hasCode, messageOf } from '../../base/errors.ts';
import { property } from '../http-failure.ts';
import { BODY_ATTEMPTS, sendParts } from '../part-sender.ts';
import type { Part } from '../parts.ts';
import { retrying } from '../retry.ts';
import { crc32c, encodeCrc32c } from './crc32c.ts';
import { isNoSuchObject, isPreconditionFailed } from './errors.ts';
import type { Call, GcsSession } from './session.ts';

/** An upload that fails must not hold up a shutdown for long. */
const CANCEL_TIMEOUT_MS = 3_000;

const CONTENT_TYPE = 'application/octet-stream';
const ANSWER_FIELDS = 'size,crc32c,generation,timeCreated';

export interface Uploaded {
  readonly sizeBytes: number;
  /** When the store says that the object came into being. */
  readonly modifiedAt: Date;
}

/** What must hold of the object that is there: `0`, that there is none. */
export interface Condition {
  readonly ifGenerationMatch?: string;
}

/**
 * Uploads `data` as the object `key` in one request.
 * @throws LitestreamError
 */
export async function uploadWhole(
  session: GcsSession,
  key: string,
  data: Uint8Array,
  signal: AbortSignal | undefined,
  condition: Condition = {},
): Promise<Uploaded> {
  const checksum = encodeCrc32c(crc32c(data));
  const boundary = randomBytes(24).toString('hex');
  const metadata = { name: session.nameOf(key), crc32c: checksum, contentType: CONTENT_TYPE };
  const head =
    `--${boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n${JSON.stringify(metadata)}\r\n` +
    `--${boundary}\r\ncontent-type: ${CONTENT_TYPE}\r\n\r\n`;
  const call: Call = {
    method: 'POST',
    url: session.uploadUrl({ uploadType: 'multipart', fields: ANSWER_FIELDS, ...condition }),
    headers: { 'content-type': `multipart/related; boundary=${boundary}` },
    body: [Buffer.from(head), data, Buffer.from(`\r\n--${boundary}--\r\n`)],
    what: `put ${key}`,
    signal,
    expect: [200],
    missing: 'bucket',
  };
  const sent = { sizeBytes: data.length, checksum };
  try {
    return await verified(session, key, await readStored(session, await session.send(call), call), sent);
  } catch (error) {
    if (!hasCode(error, 'permission') && !isPreconditionFailed(error)) throw error;
    // To overwrite takes the right to delete. Without, or with a condition, a put whose answer was lost is refused the
    // second time.
    const there = await findStored(session, key, signal);
    if (there?.crc32c !== checksum || there.sizeBytes !== data.length) throw error;
    return { sizeBytes: data.length, modifiedAt: there.modifiedAt };
  }
}

/**
 * Uploads `parts` as the object `key`; one is under way while the next is read. All but the last are multiples of
 * 256 KiB.
 * @throws LitestreamError; the upload is ended then, so that nothing of it stays behind. What the store does not hear of
 * any more it drops by itself after a week.
 */
export async function uploadChunks(
  session: GcsSession,
  key: string,
  parts: AsyncIterable<Part>,
  { signal, condition }: { readonly signal: AbortSignal | undefined; readonly condition: Condition },
): Promise<Uploaded> {
  const url = await retrying(() => begin(session, key, signal, condition), {
    attempts: BODY_ATTEMPTS,
    signal,
  });
  const upload = new Upload(session, key, url);
  let stored: StoredObject;
  try {
    stored = await upload.send(parts, signal);
  } catch (error) {
    await upload.cancel();
    throw error;
  }
  return verified(session, key, stored, upload.sent);
}

/** The address of a new upload. It is a secret: whoever knows it may go on with the upload. */
async function begin(
  session: GcsSession,
  key: string,
  signal: AbortSignal | undefined,
  condition: Condition,
): Promise<URL> {
  const metadata = { name: session.nameOf(key), contentType: CONTENT_TYPE };
  const response = await session.send({
    method: 'POST',
    url: session.uploadUrl({ uploadType: 'resumable', fields: ANSWER_FIELDS, ...condition }),
    headers: { 'content-type': 'application/json; charset=utf-8', 'x-upload-content-type': CONTENT_TYPE },
    body: [Buffer.from(JSON.stringify(metadata))],
    what: `put ${key}`,
    signal,
    expect: [200],
    missing: 'bucket',
  });
  response.resume();
  const { location } = response.headers;
  if (location === undefined || !URL.canParse(location)) {
    throw new LitestreamError('io', `put ${key}: the store gave no address for the upload: check endpoint`);
  }
  const url = new URL(location);
  if (!isOfStore(url, session.uploadUrl({}))) {
    throw new LitestreamError(
      'io',
      `put ${key}: the store gave an address for the upload on ${url.origin}, which is not its own: check endpoint`,
    );
  }
  return url;
}

/** Whether an address is the store's: the data must not go to another host of its choice, nor unencrypted. */
function isOfStore(url: URL, own: URL): boolean {
  if (url.protocol === own.protocol && url.host === own.host) return true;
  return url.protocol === 'https:' && url.port === '' && url.hostname.endsWith('.googleapis.com');
}

interface StoredObject {
  readonly sizeBytes: number;
  readonly crc32c: string | undefined;
  readonly generation: string | undefined;
  readonly modifiedAt: Date;
}

/** What a whole object must be. */
interface Sent {
  readonly sizeBytes: number;
  /** Its CRC-32C as Google writes it. */
  readonly checksum: string;
}

/** How far the store is: it has the object, or so many bytes of it. */
type Progress = { readonly stored: StoredObject } | { readonly received: number };

class Upload {
  readonly #session: GcsSession;
  readonly #key: string;
  readonly #url: URL;
  /** The part that is being sent, and which bytes of the object it is. */
  #number = 0;
  #start = 0;
  #end = 0;
  /** Of all bytes before #end. */
  #crc = 0;
  /** The bytes that the store has; after a failure only the store knows. */
  #received: number | undefined = 0;
  #stored: StoredObject | undefined;

  constructor(session: GcsSession, key: string, url: URL) {
    this.#session = session;
    this.#key = key;
    this.#url = url;
  }

  get sent(): Sent {
    return { sizeBytes: this.#end, checksum: encodeCrc32c(this.#crc) };
  }

  /** Sends all parts, in order. Nothing is under way when it ends. */
  async send(parts: AsyncIterable<Part>, signal: AbortSignal | undefined): Promise<StoredObject> {
    const options = { what: `put ${this.#key}`, concurrency: 1, signal };
    await sendParts(parts, (part, stop) => this.#sendPart(part, stop), options);
    assert(this.#stored !== undefined, 'the last part completes an upload');
    return this.#stored;
  }

  /** Sends what the store has not got of a part yet; called again after a failure. */
  async #sendPart({ number, data, last }: Part, signal: AbortSignal): Promise<void> {
    if (number !== this.#number) {
      this.#number = number;
      this.#start = this.#end;
      this.#end += data.length;
      this.#crc = crc32c(data, this.#crc);
      this.#received = this.#start;
    }
    const request = { what: `put ${this.#key} (chunk ${number})`, last, signal };
    for (;;) {
      const from = this.#received;
      this.#received = undefined;
      const rest = from === undefined ? undefined : { from, data: data.subarray(from - this.#start) };
      const progress = await this.#put(rest, request);
      if ('stored' in progress) {
        if (!last) await this.#refuseEarly(progress.stored);
        this.#stored = progress.stored;
        return;
      }
      this.#check(progress.received, from, request.what);
      this.#received = progress.received;
      if (progress.received === this.#end && !last) return;
    }
  }

  /** An emulator may take the first chunk for the whole: what it shows then must not be found. */
  async #refuseEarly(stored: StoredObject): Promise<never> {
    await remove(this.#session, this.#key, stored);
    const { target, chunkBytes } = this.#session;
    throw new LitestreamError(
      'unsupported',
      `put ${this.#key}: ${target.endpoint} takes no uploads in several requests, which objects larger than ${chunkBytes} bytes need`,
    );
  }

  /** Sends bytes, or none to ask how far the store is. */
  async #put(
    rest: { readonly from: number; readonly data: Uint8Array } | undefined,
    { what, last, signal }: { readonly what: string; readonly last: boolean; readonly signal: AbortSignal },
  ): Promise<Progress> {
    const range =
      rest === undefined || rest.data.length === 0 ? '*' : `${rest.from}-${rest.from + rest.data.length - 1}`;
    const call: Call = {
      method: 'PUT',
      url: this.#url,
      headers: {
        'content-range': `bytes ${range}/${last ? this.#end : '*'}`,
        ...(last ? { 'x-goog-hash': `crc32c=${this.sent.checksum}` } : {}),
      },
      body: rest === undefined ? [] : [rest.data],
      what,
      signal,
      expect: [200, 201, 308],
      missing: 'upload',
      anonymous: true,
    };
    const response = await this.#session.send(call);
    if (response.statusCode !== 308) return { stored: await readStored(this.#session, response, call) };
    response.resume();
    const through = /^bytes=0-(\d+)$/.exec(response.headers.range ?? '')?.[1];
    return { received: through === undefined ? 0 : Number(through) + 1 };
  }

  /** @param from - where the bytes began that were just sent; undefined: none were. */
  #check(received: number, from: number | undefined, what: string): void {
    const { bucket, endpoint } = this.#session.target;
    const store = `${what}: bucket "${bucket}" at ${endpoint}`;
    if (received < this.#start || received > this.#end) {
      const wanted = `${this.#start} to ${this.#end}`;
      throw new LitestreamError(
        'io',
        `${store} has ${received} bytes of the upload where it must have ${wanted}`,
      );
    }
    if (from !== undefined && received <= from) {
      throw new LitestreamError('unavailable', `${store} took none of the bytes`);
    }
  }

  /** Ends an upload that failed, as far as the store can be reached. */
  async cancel(): Promise<void> {
    const call: Call = {
      method: 'DELETE',
      url: this.#url,
      what: 'end the upload',
      signal: AbortSignal.timeout(CANCEL_TIMEOUT_MS),
      expect: [200, 204, 499],
      missing: 'upload',
      anonymous: true,
    };
    try {
      (await this.#session.send(call)).resume();
    } catch (error) {
      // The failure that brought us here counts; the store ends the upload by itself after a week.
      assert(error instanceof LitestreamError, messageOf(error));
    }
  }
}

async function readStored(session: GcsSession, response: IncomingMessage, call: Call): Promise<StoredObject> {
  const answer = await session.json(response, call);
  const [size, checksum, generation, timeCreated] = ['size', 'crc32c', 'generation', 'timeCreated'].map(
    (name) => property(answer, name),
  );
  if (typeof size !== 'string') {
    throw new LitestreamError('io', `${call.what}: the answer names no size: check endpoint`);
  }
  return {
    sizeBytes: Number(size),
    crc32c: typeof checksum === 'string' ? checksum : undefined,
    generation: typeof generation === 'string' ? generation : undefined,
    modifiedAt: parseTime(timeCreated),
  };
}

/** What there is of that key; undefined when there is none. @throws LitestreamError */
export async function statObject(
  session: GcsSession,
  key: string,
  signal: AbortSignal | undefined,
): Promise<Uploaded | undefined> {
  try {
    return await askFor(session, key, signal);
  } catch (error) {
    if (isNoSuchObject(error)) return undefined;
    throw error;
  }
}

/** The same; also undefined when it may not be looked at. */
async function findStored(
  session: GcsSession,
  key: string,
  signal: AbortSignal | undefined,
): Promise<StoredObject | undefined> {
  try {
    return await askFor(session, key, signal);
  } catch (error) {
    if (hasCode(error, 'not-found', 'permission')) return undefined;
    throw error;
  }
}

/** @throws LitestreamError 'not-found' */
async function askFor(
  session: GcsSession,
  key: string,
  signal: AbortSignal | undefined,
): Promise<StoredObject> {
  const call: Call = {
    method: 'GET',
    url: session.objectUrl(key, { fields: ANSWER_FIELDS }),
    what: `look for ${key}`,
    signal,
    expect: [200],
    missing: 'object',
  };
  return readStored(session, await session.send(call), call);
}

/** A time as the API gives it; ours where it gives none. */
export function parseTime(text: unknown): Date {
  const ms = typeof text === 'string' ? Date.parse(text) : NaN;
  return Number.isNaN(ms) ? new Date() : new Date(ms);
}

/** Checks what was stored against what was sent. Google refuses other bytes by itself; this is for other servers. */
async function verified(
  session: GcsSession,
  key: string,
  stored: StoredObject,
  sent: Sent,
): Promise<Uploaded> {
  const { sizeBytes, modifiedAt } = stored;
  if (sizeBytes === sent.sizeBytes && (stored.crc32c ?? sent.checksum) === sent.checksum) {
    return { sizeBytes, modifiedAt };
  }
  await remove(session, key, stored);
  const { bucket, endpoint } = session.target;
  const message = `put ${key}: bucket "${bucket}" at ${endpoint} stored other bytes than were sent: they were removed`;
  throw new LitestreamError('unavailable', message);
}

/** Removes an object that must not stay, unless it was replaced meanwhile. */
async function remove(session: GcsSession, key: string, { generation }: StoredObject): Promise<void> {
  const response = await session.send({
    method: 'DELETE',
    url: session.objectUrl(key, generation === undefined ? {} : { generation }),
    what: `delete ${key}, which was not stored as it was sent`,
    signal: AbortSignal.timeout(CANCEL_TIMEOUT_MS),
    expect: [200, 204, 404],
    missing: 'object',
  });
  response.resume();
}
