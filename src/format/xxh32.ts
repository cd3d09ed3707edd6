/**
 * The 32-bit xxHash, which LZ4 frames use as checksum (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md,
 * section "XXH32"), with seed 0. Written out here because it must also be had synchronously, without loading a
 * WebAssembly module first.
 */

const PRIME_1 = 0x9e3779b1 | 0;
const PRIME_2 = 0x85ebca77 | 0;
const PRIME_3 = 0xc2b2ae3d | 0;
const PRIME_4 = 0x27d4eb2f | 0;
const PRIME_5 = 0x165667b1 | 0;
const STRIPE_SIZE = 16;

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

function round(lane: number, word: number): number {
  return Math.imul(rotateLeft((lane + Math.imul(word, PRIME_2)) | 0, 13), PRIME_1);
}

/** The lanes of a hash before its first stripe. */
export const XXH32_LANES: readonly number[] = [(PRIME_1 + PRIME_2) | 0, PRIME_2, 0, -PRIME_1 | 0];

/** The hash, as an unsigned number. @param rest bytes after the last whole stripe @param byteCount of all */
export function finishXxh32(lanes: ArrayLike<number>, rest: Uint8Array, byteCount: number): number {
  const [lane1 = 0, lane2 = 0, lane3 = 0, lane4 = 0] = Array.from(lanes);
  let hash =
    byteCount >= STRIPE_SIZE
      ? rotateLeft(lane1, 1) + rotateLeft(lane2, 7) + rotateLeft(lane3, 12) + rotateLeft(lane4, 18)
      : PRIME_5;
  // The length is added modulo 2^32, which `| 0` does also for lengths beyond.
  hash = (hash + byteCount) | 0;
  const view = new DataView(rest.buffer, rest.byteOffset, rest.byteLength);
  let at = 0;
  for (; at + 4 <= rest.byteLength; at += 4) {
    const word = view.getInt32(at, true);
    hash = Math.imul(rotateLeft((hash + Math.imul(word, PRIME_3)) | 0, 17), PRIME_4);
  }
  for (; at < rest.byteLength; at++) {
    hash = Math.imul(rotateLeft((hash + Math.imul(view.getUint8(at), PRIME_5)) | 0, 11), PRIME_1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), PRIME_2);
  hash = Math.imul(hash ^ (hash >>> 13), PRIME_3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A running hash: any number of updates, the same digest however the bytes are cut. */
export class Xxh32 {
  #lane1 = XXH32_LANES[0] as number;
  #lane2 = XXH32_LANES[1] as number;
  #lane3 = XXH32_LANES[2] as number;
  #lane4 = XXH32_LANES[3] as number;
  #byteCount = 0;
  readonly #rest = new Uint8Array(STRIPE_SIZE);
  #restLength = 0;

  /** Adds bytes. They are not kept. */
  update(data: Uint8Array): void {
    this.#byteCount += data.byteLength;
    let at = 0;
    if (this.#restLength > 0) {
      at = Math.min(STRIPE_SIZE - this.#restLength, data.byteLength);
      this.#rest.set(data.subarray(0, at), this.#restLength);
      this.#restLength += at;
      if (this.#restLength < STRIPE_SIZE) return;
      this.#consume(this.#rest, 0, STRIPE_SIZE);
    }
    const end = data.byteLength - ((data.byteLength - at) % STRIPE_SIZE);
    this.#consume(data, at, end);
    this.#rest.set(data.subarray(end), 0);
    this.#restLength = data.byteLength - end;
  }

  /** The hash of all bytes so far, as an unsigned number. Does not end the run. */
  digest(): number {
    const lanes = [this.#lane1, this.#lane2, this.#lane3, this.#lane4];
    return finishXxh32(lanes, this.#rest.subarray(0, this.#restLength), this.#byteCount);
  }

  /** Whole stripes of `data[start, end)`. Local lanes: private fields in the loop cost half the speed. */
  #consume(data: Uint8Array, start: number, end: number): void {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    let lane1 = this.#lane1;
    let lane2 = this.#lane2;
    let lane3 = this.#lane3;
    let lane4 = this.#lane4;
    for (let at = start; at < end; at += STRIPE_SIZE) {
      lane1 = round(lane1, view.getInt32(at, true));
      lane2 = round(lane2, view.getInt32(at + 4, true));
      lane3 = round(lane3, view.getInt32(at + 8, true));
      lane4 = round(lane4, view.getInt32(at + 12, true));
    }
    this.#lane1 = lane1;
    this.#lane2 = lane2;
    this.#lane3 = lane3;
    this.#lane4 = lane4;
  }
}

/** The hash of `data`, as an unsigned number. */
export function xxh32(data: Uint8Array): number {
  const hash = new Xxh32();
  hash.update(data);
  return hash.digest();
}
