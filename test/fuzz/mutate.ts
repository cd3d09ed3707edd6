/** Changes of inputs that know nothing of what the bytes mean. */

import type { Random } from './random.ts';

/** Numbers at which programs err: ends of ranges, and what stands beside them. */
const INTERESTING = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x100n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x1_0000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  8_640_000_000_000_001n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

export interface MutationOptions {
  /** Texts that mean something to what is tested. */
  readonly dictionary: readonly string[];
  /** Longer results are cut. */
  readonly maxBytes: number;
  /** Whose parts may come in. */
  readonly pool: readonly Uint8Array[];
}

type Mutation = (data: Buffer, random: Random, options: MutationOptions) => Uint8Array;

/** `data` with [start, end) replaced. */
function replaced(data: Buffer, start: number, end: number, by: Uint8Array): Buffer {
  return Buffer.concat([data.subarray(0, start), by, data.subarray(end)]);
}

/** A range of some bytes, most of them short. */
function rangeIn(data: Uint8Array, random: Random): [start: number, end: number] {
  const start = random.below(data.byteLength);
  const longest = random.oneIn(4) ? data.byteLength : 16;
  return [start, Math.min(data.byteLength, start + random.few(longest))];
}

function changed(data: Buffer, at: number, by: (byte: number) => number): Buffer {
  const copy = Buffer.from(data);
  copy[at] = by(copy[at] ?? 0);
  return copy;
}

const flipBit: Mutation = (data, random) =>
  changed(data, random.below(data.byteLength), (byte) => byte ^ (1 << random.below(8)));

const setByte: Mutation = (data, random) =>
  changed(data, random.below(data.byteLength), () => random.below(256));

const addToByte: Mutation = (data, random) =>
  changed(data, random.below(data.byteLength), (byte) => byte + random.below(71) - 35);

/** A number of 1, 2, 4 or 8 bytes in either order: one at which programs err, or a neighbour of what stands there. */
const setNumber: Mutation = (data, random) => {
  const size = random.pick([1, 2, 4, 8]);
  if (data.byteLength < size) return data;
  const copy = Buffer.from(data);
  const at = random.below(copy.byteLength - size + 1);
  const little = random.oneIn(2);
  const word = copy.subarray(at, at + size);
  if (little) word.reverse();
  const before = BigInt(`0x${word.toString('hex')}`);
  const value = random.oneIn(3) ? before + BigInt(random.below(71) - 35) : random.pick(INTERESTING);
  const digits = BigInt.asUintN(8 * size, value).toString(16);
  word.write(digits.padStart(2 * size, '0'), 'hex');
  if (little) word.reverse();
  return copy;
};

const remove: Mutation = (data, random) => {
  const [start, end] = rangeIn(data, random);
  return replaced(data, start, end, new Uint8Array(0));
};

const cut: Mutation = (data, random) => data.subarray(0, random.below(data.byteLength));

const insert: Mutation = (data, random) => {
  const at = random.below(data.byteLength + 1);
  const count = random.few(random.oneIn(8) ? 256 : 8);
  const filled = random.oneIn(2) ? random.bytes(count) : new Uint8Array(count).fill(random.below(256));
  return replaced(data, at, at, filled);
};

/** A range once more, or very often, where it stands or elsewhere. */
const repeat: Mutation = (data, random, { maxBytes }) => {
  const [start, end] = rangeIn(data, random);
  const part = data.subarray(start, end);
  const most = Math.floor((maxBytes - data.byteLength) / part.byteLength);
  const times = random.oneIn(16) ? most : Math.min(most, random.few(4));
  const at = random.oneIn(2) ? end : random.below(data.byteLength + 1);
  return times < 1 ? data : replaced(data, at, at, Buffer.alloc(times * part.byteLength, part));
};

const overwrite: Mutation = (data, random) => {
  const [start, end] = rangeIn(data, random);
  const at = random.below(data.byteLength);
  return replaced(data, at, Math.min(at + end - start, data.byteLength), data.subarray(start, end));
};

/** The beginning of one input, and the end or a part of another. */
const splice: Mutation = (data, random, { pool }) => {
  const other = pool.length === 0 ? data : random.pick(pool);
  if (other.byteLength === 0) return data;
  const [start, end] = rangeIn(other, random);
  const at = random.below(data.byteLength + 1);
  if (random.oneIn(2)) return Buffer.concat([data.subarray(0, at), other.subarray(start)]);
  const replacedEnd = random.oneIn(2) ? at : Math.min(data.byteLength, at + end - start);
  return replaced(data, at, replacedEnd, other.subarray(start, end));
};

const insertWord: Mutation = (data, random, { dictionary }) => {
  if (dictionary.length === 0) return data;
  const word = Buffer.from(random.pick(dictionary));
  const at = random.below(data.byteLength + 1);
  return replaced(data, at, random.oneIn(2) ? at : Math.min(data.byteLength, at + word.byteLength), word);
};

/** A number in digits becomes another one. */
const changeDigits: Mutation = (data, random) => {
  const text = data.toString('latin1');
  const numbers = [...text.matchAll(/\d+/g)];
  if (numbers.length === 0) return data;
  const found = random.pick(numbers);
  const value = BigInt(found[0].slice(0, 40));
  const other = random.pick([
    () => value + BigInt(random.below(71) - 35),
    () => value * 10n,
    () => -value,
    () => random.pick(INTERESTING),
    () => BigInt('9'.repeat(random.few(60))),
  ])();
  return replaced(data, found.index, found.index + found[0].length, Buffer.from(other.toString()));
};

const BINARY: readonly Mutation[] = [flipBit, setByte, addToByte, setNumber, setNumber, remove, cut, insert];
const SHARED: readonly Mutation[] = [repeat, overwrite, splice];
const TEXTUAL: readonly Mutation[] = [insertWord, insertWord, insertWord, changeDigits, remove, insert];

/** `data` after one to a dozen changes. */
export function mutate(data: Uint8Array, random: Random, options: MutationOptions): Uint8Array {
  const textual = options.dictionary.length > 0;
  const all = textual ? [...BINARY, ...SHARED, ...TEXTUAL] : [...BINARY, ...SHARED];
  let result = Buffer.from(data);
  for (let count = random.oneIn(2) ? 1 : random.few(12); count > 0; count--) {
    if (result.byteLength === 0) result = Buffer.from(random.bytes(random.few(8)));
    result = Buffer.from(random.pick(all)(result, random, options));
  }
  return result.subarray(0, options.maxBytes);
}
