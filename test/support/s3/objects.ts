/** The test server's buckets: objects and unfinished uploads in memory, and how they are listed. */

import { createHash, randomUUID } from 'node:crypto';
import { S3Fault } from './fault.ts';

export interface StoredObject {
  readonly key: string;
  readonly data: Buffer;
  /** Without quotes. */
  readonly etag: string;
  readonly modifiedAt: Date;
}

export interface Listing {
  /** Objects and common prefixes, together in key order. */
  readonly entries: ({ readonly object: StoredObject } | { readonly prefix: string })[];
  /** Where the next page goes on, if there is one. */
  readonly next: string | undefined;
}

interface Upload {
  readonly key: string;
  readonly begunAt: Date;
  readonly parts: Map<number, { data: Buffer; etag: string }>;
}

const MIN_PART_SIZE = 5 * 1024 * 1024;

export function md5(data: Buffer): Buffer {
  return createHash('md5').update(data).digest();
}

export class Bucket {
  readonly #objects = new Map<string, StoredObject>();
  readonly uploads = new Map<string, Upload>();
  readonly #etagOf: (data: Buffer) => string;
  #sorted: string[] | undefined;

  constructor(etagOf: (data: Buffer) => string = (data) => md5(data).toString('hex')) {
    this.#etagOf = etagOf;
  }

  get(key: string): StoredObject {
    const object = this.#objects.get(key);
    if (object === undefined)
      throw new S3Fault(404, 'NoSuchKey', 'The specified key does not exist.', { Key: key });
    return object;
  }

  has(key: string): boolean {
    return this.#objects.has(key);
  }

  put(key: string, data: Buffer, etag: string = this.#etagOf(data), modifiedAt = new Date()): StoredObject {
    return this.#set({ key, data, etag, modifiedAt });
  }

  #set(object: StoredObject): StoredObject {
    if (!this.#objects.has(object.key)) this.#sorted = undefined;
    this.#objects.set(object.key, object);
    return object;
  }

  delete(key: string): void {
    if (this.#objects.delete(key)) this.#sorted = undefined;
  }

  /** All keys in S3's order: by their UTF-8 bytes. */
  keys(): string[] {
    this.#sorted ??= [...this.#objects.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    return this.#sorted;
  }

  /** One page of keys under `prefix`, those that share a part up to `delimiter` rolled into one, strictly after `after`. */
  list(prefix: string, delimiter: string, after: string, maxKeys: number): Listing {
    const entries: Listing['entries'] = [];
    let last = after;
    let rolled = delimiter !== '' && after.endsWith(delimiter) ? after : undefined;
    for (const key of this.keys()) {
      if (!key.startsWith(prefix) || Buffer.compare(Buffer.from(key), Buffer.from(after)) <= 0) continue;
      if (rolled !== undefined && key.startsWith(rolled)) continue;
      if (entries.length === maxKeys) return { entries, next: last };
      const end = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
      if (end < 0) entries.push({ object: this.get(key) });
      else entries.push({ prefix: (rolled = key.slice(0, end + delimiter.length)) });
      last = end < 0 ? key : rolled!;
    }
    return { entries, next: undefined };
  }

  begin(key: string, begunAt: Date = new Date()): string {
    const id = randomUUID();
    this.uploads.set(id, { key, begunAt, parts: new Map() });
    return id;
  }

  #upload(id: string, key: string): Upload {
    const upload = this.uploads.get(id);
    if (upload?.key !== key) throw new S3Fault(404, 'NoSuchUpload', 'The specified upload does not exist.');
    return upload;
  }

  putPart(id: string, key: string, number: number, data: Buffer): string {
    if (!(number >= 1 && number <= 10_000)) {
      throw new S3Fault(400, 'InvalidArgument', 'Part number must be between 1 and 10000.');
    }
    const etag = this.#etagOf(data);
    this.#upload(id, key).parts.set(number, { data, etag });
    return etag;
  }

  /** Publishes the upload: dated by when it was begun, as S3 does. */
  complete(id: string, key: string, wanted: { number: number; etag: string }[]): StoredObject {
    const upload = this.#upload(id, key);
    const parts = wanted.map(({ number, etag }, place) => {
      const part = upload.parts.get(number);
      if (part === undefined || part.etag !== etag.replaceAll('"', '')) {
        throw new S3Fault(400, 'InvalidPart', `Part ${number} could not be found.`);
      }
      if (place > 0 && number <= wanted[place - 1]!.number) {
        throw new S3Fault(400, 'InvalidPartOrder', 'The parts are not in order.');
      }
      if (place < wanted.length - 1 && part.data.length < MIN_PART_SIZE) {
        throw new S3Fault(400, 'EntityTooSmall', `Part ${number} is smaller than the minimum.`);
      }
      return part;
    });
    if (parts.length === 0) throw new S3Fault(400, 'MalformedXML', 'The upload has no parts.');
    const digest = md5(Buffer.concat(parts.map((part) => Buffer.from(part.etag, 'hex'))));
    this.uploads.delete(id);
    let data: Buffer | undefined;
    return this.#set({
      key,
      // As in a real store, nothing is copied until somebody reads it.
      get data() {
        return (data ??= Buffer.concat(parts.map((part) => part.data)));
      },
      etag: `${digest.toString('hex')}-${parts.length}`,
      modifiedAt: upload.begunAt,
    });
  }

  abort(id: string, key: string): void {
    this.#upload(id, key);
    this.uploads.delete(id);
  }
}
