/** The decompressed contents of fetched objects, the next one being begun while one is used. */

import { assert } from '../base/errors.ts';
import { type DecodeOptions, type Lz4End, decodeLz4Frame } from '../format/lz4-frame.ts';
import type { Fetchable, Fetched } from './restore-fetch.ts';

export interface Content<T extends Fetchable> {
  readonly object: T;
  /** To be used before the next object is asked for. Chunks are as transient as the options say. */
  readonly chunks: AsyncIterable<Uint8Array>;
  /** What stands around the content; to be asked for after all chunks. */
  readonly end: () => Lz4End;
}

export interface DecodedContent<T extends Fetchable> extends Content<T> {
  /** Its size, if it announces it; to be asked for after the first chunk. */
  readonly announcedSizeBytes: number | undefined;
}

/**
 * Contents in the order of the objects. Errors come out of the chunks.
 * @param fetched is ended with this iteration and not before, since that aborts its requests
 * @param count of the objects
 */
export async function* decodeInOrder<T extends Fetchable>(
  fetched: Generator<Fetched<T>, undefined>,
  count: number,
  options: DecodeOptions,
): AsyncGenerator<DecodedContent<T>, undefined> {
  const begun: BegunContent<T>[] = [];
  try {
    for (let i = 0; i < count; i++) {
      for (let ahead = Math.min(2, count - i); begun.length < ahead;) {
        const next = fetched.next();
        if (next.done === true) return;
        begun.push(new BegunContent(next.value, options));
      }
      const [current] = begun;
      if (current) yield current;
      await begun.shift()?.close();
    }
  } finally {
    fetched.return(undefined);
    for (const content of begun) await content.close();
  }
  return undefined;
}

/** A content whose first chunk is being made. */
class BegunContent<T extends Fetchable> implements DecodedContent<T> {
  readonly object: T;
  readonly chunks: AsyncIterable<Uint8Array>;
  readonly end = (): Lz4End => {
    assert(this.#end !== undefined, 'the content was read to its end');
    return this.#end;
  };
  #announcedSizeBytes: number | undefined;
  readonly #source: AsyncGenerator<Uint8Array>;
  #end: Lz4End | undefined;

  constructor({ object, body }: Fetched<T>, options: DecodeOptions) {
    this.object = object;
    this.#source = decodeLz4Frame(body, {
      ...options,
      onSize: (sizeBytes) => (this.#announcedSizeBytes = sizeBytes),
      onEnd: (end) => (this.#end = end),
    });
    const first = this.#source.next();
    // Whoever comes to it awaits it; nobody does when the restore has failed before.
    first.catch(() => undefined);
    this.chunks = beginningWith(first, this.#source);
  }

  get announcedSizeBytes(): number | undefined {
    return this.#announcedSizeBytes;
  }

  async close(): Promise<void> {
    await this.#source.return(undefined);
  }
}

async function* beginningWith(
  first: Promise<IteratorResult<Uint8Array>>,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const result = await first;
  if (result.done === true) return;
  yield result.value;
  yield* rest;
}
