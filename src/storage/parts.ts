/**
 * Cuts the body of an upload into parts that S3 takes (none smaller than 5 MiB but the last, at most 10,000), and so do
 * the other stores.
 */

export const MIN_PART_SIZE: number = 5 * 1024 * 1024;
export const MAX_PARTS = 10_000;

/**
 * Of the parts that a store takes, those of one size before they begin to grow. Some stores want all parts but the last
 * to be equal, so growth is only for bodies that exceed their hint, or 39 GiB without one.
 */
const EQUAL_SHARE = 0.8;
/** Beyond that, the size doubles after this share of the parts: enough for S3's largest object within those that are left. */
const DOUBLE_SHARE = 0.02;

const MIB = 1024 * 1024;

export interface PartLimits {
  readonly minSizeBytes: number;
  /** Parts that the store takes for one body. */
  readonly maxParts: number;
}

export const PART_LIMITS: PartLimits = { minSizeBytes: MIN_PART_SIZE, maxParts: MAX_PARTS };

/** The size of the first parts for a body of about `sizeHintBytes`. */
export function basePartSize(sizeHintBytes: number | undefined, limits: PartLimits = PART_LIMITS): number {
  const wanted = Math.ceil((sizeHintBytes ?? 0) / (limits.maxParts * EQUAL_SHARE) / MIB) * MIB;
  return Math.max(limits.minSizeBytes, wanted);
}

/** The size of part `number` (from 1), given the first one's. */
export function partSize(number: number, baseSize: number, maxParts: number = MAX_PARTS): number {
  const equal = maxParts * EQUAL_SHARE;
  if (number <= equal) return baseSize;
  return baseSize * 2 ** Math.ceil((number - equal) / (maxParts * DOUBLE_SHARE));
}

export interface Part {
  /** From 1. */
  readonly number: number;
  readonly data: Uint8Array;
  readonly last: boolean;
  /** To be called when its bytes are not needed any more: the memory is used for a later part. */
  readonly release?: () => void;
}

/**
 * The parts of a body, at least one. Streams are copied, so that their producer may reuse its chunks; bytes are not.
 * A part is yielded when it is known whether it is the last.
 */
export async function* partsOf(
  body: Uint8Array | AsyncIterable<Uint8Array>,
  baseSize: number,
  maxParts: number = MAX_PARTS,
): AsyncGenerator<Part, void, undefined> {
  const sizeOf = (number: number): number => partSize(number, baseSize, maxParts);
  if (body instanceof Uint8Array) yield* slices(body, sizeOf);
  else yield* gathered(body, sizeOf);
}

function* slices(body: Uint8Array, sizeOf: (number: number) => number): Generator<Part, void, undefined> {
  let offset = 0;
  for (let number = 1; ; number++) {
    const data = body.subarray(offset, offset + sizeOf(number));
    offset += data.length;
    const last = offset === body.length;
    yield { number, data, last };
    if (last) return;
  }
}

async function* gathered(
  body: AsyncIterable<Uint8Array>,
  sizeOf: (number: number) => number,
): AsyncGenerator<Part, void, undefined> {
  let number = 1;
  let size = sizeOf(number);
  let part = new GrowingBuffer(size);
  /** Of parts that were released; fresh memory for each costs as much as sending it. */
  const free: Buffer[] = [];
  for await (const chunk of body) {
    let rest = chunk;
    while (rest.length > 0) {
      if (part.length === size) {
        const full = part.buffer;
        yield { number, data: full, last: false, release: () => free.push(full) };
        size = sizeOf(++number);
        const used = free.pop();
        // A body of more than one part most likely fills this one, too.
        part = new GrowingBuffer(size, used?.length === size ? used : Buffer.allocUnsafeSlow(size));
      }
      const taken = rest.subarray(0, size - part.length);
      part.append(taken);
      rest = rest.subarray(taken.length);
    }
  }
  yield { number, data: part.bytes(), last: true };
}

/** A buffer that begins small, since most objects are, and doubles up to its limit. */
class GrowingBuffer {
  readonly #limit: number;
  buffer: Buffer;
  length = 0;

  constructor(limit: number, buffer: Buffer = Buffer.allocUnsafe(Math.min(limit, 64 * 1024))) {
    this.#limit = limit;
    this.buffer = buffer;
  }

  append(data: Uint8Array): void {
    const needed = this.length + data.length;
    if (needed > this.buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(this.#limit, Math.max(needed, this.buffer.length * 2)));
      this.buffer.copy(grown, 0, 0, this.length);
      this.buffer = grown;
    }
    this.buffer.set(data, this.length);
    this.length = needed;
  }

  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }
}

/** `first`, which was taken from `rest` already, and the rest. */
export async function* preceded(
  first: Part,
  rest: AsyncIterable<Part>,
): AsyncGenerator<Part, void, undefined> {
  yield first;
  yield* rest;
}
