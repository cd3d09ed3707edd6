/** Random numbers that are the same for the same seed. */

export class Random {
  #state: [number, number, number, number];

  /** @param seed a whole number */
  constructor(seed: number) {
    this.#state = [0x9e3779b9, 0x243f6a88, 0xb7e15162, seed | 0];
    for (let i = 0; i < 15; i++) this.#next();
  }

  /** The generator "sfc32": a word of 32 bits. */
  #next(): number {
    const [a, b, c, d] = this.#state;
    const sum = (a + b + d) | 0;
    this.#state = [b ^ (b >>> 9), (c + (c << 3)) | 0, (((c << 21) | (c >>> 11)) + sum) | 0, (d + 1) | 0];
    return sum >>> 0;
  }

  /** A whole number from 0 to `end` - 1; 0 when `end` is less than 2. */
  below(end: number): number {
    return Math.floor((this.#next() / 2 ** 32) * Math.max(end, 1));
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('there is nothing to pick from');
    return item;
  }

  /** Small numbers mostly: 1 to `most`. */
  few(most: number): number {
    return 1 + this.below(1 + this.below(most));
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.below(256));
  }
}
