/** Puts one body: in one piece when it is no larger than a part, else in parts. For stores that take both. */

import { throwIfAborted } from '../base/concurrency.ts';
import { assert } from '../base/errors.ts';
import { abortable } from './body.ts';
import type { PutOptions } from './object-store.ts';
import { BODY_ATTEMPTS } from './part-sender.ts';
import { PART_LIMITS, basePartSize, partsOf, preceded } from './parts.ts';
import type { Part, PartLimits } from './parts.ts';
import { retrying } from './retry.ts';

export interface Stored {
  readonly sizeBytes: number;
  /** When the store says the object came into being. */
  readonly modifiedAt: Date;
  /** As in ObjectInfo. */
  readonly version?: string | undefined;
}

/** What a store says of what it was sent whole. */
export type Put = Omit<Stored, 'sizeBytes'>;

/** The two ways to put a body, each of which publishes it whole or not at all. */
export interface BodyPutter {
  /** One request; called again after a passing failure when the body was a stream, which nobody else can repeat. */
  readonly whole: (data: Uint8Array) => Promise<Put>;
  /** At least two parts. */
  readonly inParts: (parts: AsyncIterable<Part>) => Promise<Stored>;
  /** Those of S3 unless said otherwise. */
  readonly limits?: PartLimits;
}

/** Reads `body` to its end, or stops and lets its source finish when putting fails or is aborted. */
export async function putBody(
  body: Uint8Array | AsyncIterable<Uint8Array>,
  { signal, sizeHintBytes }: PutOptions,
  putter: BodyPutter,
): Promise<Stored> {
  throwIfAborted(signal);
  const { limits = PART_LIMITS } = putter;
  const inMemory = body instanceof Uint8Array;
  const baseSize = basePartSize(inMemory ? body.length : sizeHintBytes, limits);
  const parts = partsOf(inMemory ? body : abortable(body, signal), baseSize, limits.maxParts);
  try {
    const first = await parts.next();
    assert(first.done !== true, 'a body has at least one part');
    if (!first.value.last) return await putter.inParts(preceded(first.value, parts));
    const { data } = first.value;
    // Bytes in memory can be put again by the caller; a stream is gone, but we hold all of it here.
    const attempts = inMemory ? 1 : BODY_ATTEMPTS;
    const stored = await retrying(() => putter.whole(data), { attempts, signal });
    return { sizeBytes: data.length, ...stored };
  } finally {
    await parts.return();
  }
}
