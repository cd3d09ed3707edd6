/**
 * A decorator that encrypts what is put, with age, and decrypts what is got. Keys, sizes in listings and what `put`
 * tells are those of the encrypted objects; bytes and ranges of `get` are the content's. Objects that are not encrypted
 * are refused where there are identities, unless the config allows them: then they are read as they are.
 */

import { randomBytes } from 'node:crypto';
import { LitestreamError } from '../../base/errors.ts';
import { collect } from '../body.ts';
import { ForwardingStore, optionalMembersOf } from '../forwarding-store.ts';
import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
} from '../object-store.ts';
import { plaintextRefusal } from '../../base/plaintext-refusal.ts';
import type { EncryptionConfig } from '../store-config.ts';
import { MAX_HEAD_SIZE, parseHead } from './head.ts';
import { checkKeys, newHeader, openHeader } from './keys.ts';
import {
  NONCE_SIZE,
  chunkAround,
  contentSizeOf,
  payloadKey,
  sealBytes,
  sealStream,
  sealedSize,
  unsealStream,
} from './stream.ts';

/** What is asked for to get a head: enough for dozens of recipients. */
const USUAL_HEAD_SIZE = 4 << 10;
/** Objects whose heads are remembered: large ones are read in ranges, several at once. */
const REMEMBERED = 16;

/** @throws LitestreamError 'config' for malformed keys */
export async function withEncryption(store: ObjectStore, config: EncryptionConfig): Promise<ObjectStore> {
  await checkKeys(config);
  return new EncryptingStore(store, config);
}

/** The encrypted part of an object. */
interface Payload {
  /** Where it begins in the object. */
  readonly at: number;
  readonly key: Uint8Array;
}

class EncryptingStore extends ForwardingStore {
  readonly #config: EncryptionConfig;
  /** By key, the latest last; 'plain' for objects that are not encrypted. */
  readonly #payloads = new Map<string, Payload | 'plain'>();
  /** Whether what was read of a folder is not encrypted. */
  readonly #plainFolders = new Map<string, boolean>();

  constructor(store: ObjectStore, config: EncryptionConfig) {
    // What putIfAbsent puts would not be encrypted.
    const others = optionalMembersOf(store).filter((name) => name !== 'putIfAbsent');
    super(store, ['contentSize', ...others]);
    this.#config = config;
  }

  /** Without identities the bytes are given as they are stored: whoever parses them says what is missing. */
  override get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    if (this.#config.identities.length === 0) return this.inner.get(key, options);
    return options.range ? this.#getRange(key, options, options.range) : this.#getWhole(key, options);
  }

  override async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    const { recipients } = this.#config;
    if (recipients.length === 0) {
      throw new LitestreamError(
        'config',
        'age.recipients is missing: nothing is stored unencrypted beside it',
      );
    }
    const { header, fileKey } = await newHeader(recipients);
    const nonce = randomBytes(NONCE_SIZE);
    const payload = payloadKey(fileKey, nonce);
    this.#payloads.delete(key);
    this.#plainFolders.set(folderOf(key), false);
    if (body instanceof Uint8Array) {
      const sealed = Buffer.concat([header, nonce, ...sealBytes(body, payload)]);
      return this.inner.put(key, sealed, { ...options, sizeHintBytes: sealed.byteLength });
    }
    const { sizeHintBytes: hint } = options;
    const sizeHintBytes = hint && header.byteLength + NONCE_SIZE + sealedSize(hint);
    const sealed = preceded([header, nonce], sealStream(body, payload));
    return this.inner.put(key, sealed, { ...options, sizeHintBytes });
  }

  override delete(keys: readonly string[], options?: CallOptions): Promise<void> {
    for (const key of keys) this.#payloads.delete(key);
    return this.inner.delete(keys, options);
  }

  protected override async forwardContentSize(
    { key, sizeBytes }: Pick<ObjectInfo, 'key' | 'sizeBytes'>,
    options: CallOptions = {},
  ): Promise<number> {
    if (this.#config.identities.length === 0) return sizeBytes;
    const payload = await this.#payload(key, options);
    return payload === 'plain' ? sizeBytes : contentSizeOf(sizeBytes - payload.at);
  }

  async #getWhole(key: string, options: GetOptions): Promise<ObjectBody> {
    const body = await this.inner.get(key, options);
    const iterator = body.stream[Symbol.asyncIterator]();
    try {
      const { data, payload } = await this.#readHead(iterator);
      this.#checkKind(key, payload);
      if (payload === 'plain') return { sizeBytes: body.sizeBytes, stream: rest(data, iterator) };
      const sizeBytes = contentSizeOf(body.sizeBytes - payload.at);
      const sealed = rest(data.subarray(payload.at), iterator);
      return { sizeBytes, stream: unsealStream(sealed, payload.key, { first: 0, toEnd: true }) };
    } catch (error) {
      await iterator.return?.();
      throw error;
    }
  }

  async #getRange(
    key: string,
    { signal }: CallOptions,
    range: NonNullable<GetOptions['range']>,
  ): Promise<ObjectBody> {
    const payload = await this.#payload(key, { signal });
    if (payload === 'plain') return this.inner.get(key, { signal, range });
    const { start, end = Infinity } = range;
    const first = chunkAround(start);
    const from = payload.at + first.start;
    const to = end === Infinity ? undefined : payload.at + chunkAround(end - 1).end;
    const body = await this.inner.get(key, {
      signal,
      range: to === undefined ? { start: from } : { start: from, end: to },
    });
    // Nothing is there: the object ends before the range.
    if (body.sizeBytes === 0) return body;
    const toEnd = to === undefined || body.sizeBytes < to - from;
    const skip = start - first.content;
    const chunks = unsealStream(body.stream, payload.key, { first: first.number, toEnd });
    try {
      const there = contentSizeOf(body.sizeBytes);
      const sizeBytes = Math.max(0, Math.min(end - first.content, there) - skip);
      return { sizeBytes, stream: this.#forgetting(key, slice(chunks, skip, skip + sizeBytes)) };
    } catch (error) {
      await body.stream[Symbol.asyncIterator]().return?.();
      throw error;
    }
  }

  /** What cannot be read may have been put anew by somebody else: the next one to read it asks for its head again. */
  async *#forgetting(key: string, content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* content;
    } catch (error) {
      this.#payloads.delete(key);
      throw error;
    }
  }

  async #payload(key: string, { signal }: CallOptions): Promise<Payload | 'plain'> {
    const known = this.#payloads.get(key);
    if (known) return known;
    let payload: Payload | 'plain' | undefined;
    for (const end of [USUAL_HEAD_SIZE, MAX_HEAD_SIZE]) {
      const { stream, sizeBytes } = await this.inner.get(key, { signal, range: { start: 0, end } });
      const complete = sizeBytes < end || end === MAX_HEAD_SIZE;
      payload = await this.#parse(Buffer.from(await collect(stream)), complete);
      if (payload) break;
    }
    this.#checkKind(key, payload ?? 'plain');
    this.#remember(key, payload ?? 'plain');
    return payload ?? 'plain';
  }

  /**
   * Whoever may write to the store could put plaintext of his own in the place of what is encrypted, without knowing for
   * whom: it is read only when it is asked for, and never in one folder with encrypted objects.
   */
  #checkKind(key: string, payload: Payload | 'plain'): void {
    const isPlain = payload === 'plain';
    if (isPlain && this.#config.allowPlaintext !== true) throw plaintextRefusal();
    const folder = folderOf(key);
    const before = this.#plainFolders.get(folder) ?? isPlain;
    if (before !== isPlain) throw mixed(folder);
    this.#plainFolders.set(folder, isPlain);
  }

  #remember(key: string, payload: Payload | 'plain'): void {
    const [oldest] = this.#payloads.keys();
    if (oldest !== undefined && this.#payloads.size >= REMEMBERED) this.#payloads.delete(oldest);
    this.#payloads.set(key, payload);
  }

  /** Takes as much from the stream as the head needs. */
  async #readHead(
    iterator: AsyncIterator<Uint8Array>,
  ): Promise<{ data: Buffer; payload: Payload | 'plain' }> {
    let data = Buffer.alloc(0);
    for (;;) {
      const next = await iterator.next();
      if (next.done !== true) data = Buffer.concat([data, next.value]);
      const payload = await this.#parse(data, next.done === true || data.byteLength >= MAX_HEAD_SIZE);
      if (payload) return { data, payload };
    }
  }

  async #parse(data: Buffer, complete: boolean): Promise<Payload | 'plain' | undefined> {
    const head = parseHead(data, complete);
    if (head === undefined || head === 'plain') return head;
    const { header, nonce } = head;
    const fileKey = await openHeader(header, this.#config.identities);
    return { at: header.byteLength + nonce.byteLength, key: payloadKey(fileKey, nonce) };
  }
}

/** Of a key, its first two parts: what a replica keeps together, a generation. */
function folderOf(key: string): string {
  return key.split('/').slice(0, 2).join('/');
}

function mixed(folder: string): LitestreamError {
  return new LitestreamError(
    'corrupt',
    `some objects of ${folder} are encrypted and some are not: somebody else has put objects there`,
  );
}

async function* preceded(
  first: readonly Uint8Array[],
  others: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* first;
  yield* others;
}

/** What has been read and what has not. */
async function* rest(data: Uint8Array, iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (data.byteLength > 0) yield data;
    for (;;) {
      const next = await iterator.next();
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
}

/** Bytes [start, end) of a stream. */
async function* slice(
  source: AsyncIterable<Uint8Array>,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array> {
  let at = 0;
  for await (const chunk of source) {
    const part = chunk.subarray(Math.max(0, start - at), Math.max(0, end - at));
    at += chunk.byteLength;
    if (part.byteLength > 0) yield part;
  }
}
