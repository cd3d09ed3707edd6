/** What a fuzz target declares, and the oracles that targets share. */

import assert from 'node:assert/strict';
import { type ErrorCode, LitestreamError } from '../../src/base/errors.ts';
import type { Random } from './random.ts';

export interface FuzzTarget {
  /** Of its file and of the folder of its corpus. */
  readonly name: string;
  /** Inputs to begin with, beside the files of the corpus. */
  readonly seeds: () => readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /** For texts: words that mean something to the parser. */
  readonly dictionary?: readonly string[];
  /** Inputs have at most this many bytes. Default: 4096. */
  readonly maxBytes?: number;
  /** Makes checksums and sizes right again: what fails them is told apart at once, and nothing behind them is reached. */
  readonly repair?: (data: Uint8Array, random: Random) => Uint8Array;
  /** Throws when an invariant does not hold. */
  readonly run: (data: Uint8Array) => void | Promise<void>;
  readonly close?: () => void | Promise<void>;
}

/** Of a refusal: enough to tell its kind. */
const TOLD_CHARACTERS = 36;

/** What an input was told since the last takeTraits(). */
let traits: string[] = [];

/**
 * What was told of an input, each with its place in the order: of two refusals with different words, numbers and names apart,
 * different parts of a parser were reached. That is why an input is kept, to be changed further.
 */
export function takeTraits(): readonly string[] {
  const taken = traits;
  traits = [];
  return taken;
}

/** Notes something that tells inputs apart. */
export function trait(text: string): void {
  traits.push(`${traits.length} ${text}`);
}

/**
 * What `work` gives; undefined when it is refused as documented. Everything else that is thrown (TypeError, RangeError, a
 * failed assertion, another code) breaks the invariant.
 */
export function refusable<T>(codes: readonly ErrorCode[], work: () => T): T | undefined {
  try {
    const result = work();
    trait('accepted');
    return result;
  } catch (error) {
    checkRefusal(error, codes);
    return undefined;
  }
}

/** The same for what takes its time. */
export async function refusableLater<T>(
  codes: readonly ErrorCode[],
  work: () => Promise<T>,
): Promise<T | undefined> {
  try {
    const result = await work();
    trait('accepted');
    return result;
  } catch (error) {
    checkRefusal(error, codes);
    return undefined;
  }
}

/** Throws what is no refusal with one of `codes`. */
export function checkRefusal(error: unknown, codes: readonly ErrorCode[]): asserts error is LitestreamError {
  if (!(error instanceof LitestreamError)) throw error;
  // Only the beginning: what follows may be the input itself.
  const words = error.message
    .slice(0, 100)
    .replaceAll(/"[^"]*"|'[^']*'|[^\s:]*[\d%/=@][^\s:]*|[^\x20-\x7e]/g, '#');
  trait(words.slice(0, TOLD_CHARACTERS));
  if (!codes.includes(error.code)) throw new Error(`undocumented code ${error.code}: ${error.message}`);
}

/** A whole number that arithmetic keeps exact, from 0 to `most`. */
export function checkNatural(value: number, what: string, most = Number.MAX_SAFE_INTEGER): void {
  assert(Number.isSafeInteger(value) && value >= 0 && value <= most, `${what} is ${value}`);
}

/** The same bytes, or the same lack of them. */
export function checkSame(actual: Uint8Array | undefined, expected: Uint8Array | undefined): void {
  const same =
    actual && expected
      ? Buffer.from(actual.buffer, actual.byteOffset, actual.byteLength).equals(expected)
      : actual === expected;
  if (!same)
    throw new Error(`${actual?.byteLength} bytes are not the ${expected?.byteLength} that they should be`);
}

/** Nothing was logged that is a bug of ours. */
export function checkLog(lines: readonly { readonly attributes: object }[]): void {
  const bug = lines
    .map(({ attributes }) => JSON.stringify(attributes))
    .find((text) => text.includes('a bug in'));
  assert.equal(bug, undefined, bug);
}

export function textOf(data: Uint8Array): string {
  return Buffer.from(data).toString('utf8');
}

export function bytesOf(...texts: readonly string[]): Uint8Array[] {
  return texts.map((text) => Buffer.from(text));
}

/** `data` in pieces whose sizes are told by its own bytes, so that one input is always cut in the same way. */
export async function* inPieces(data: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.byteLength;) {
    const size = 1 + (((data[at] ?? 0) * 7 + at) % 97);
    yield await Promise.resolve(data.subarray(at, at + size));
    at += size;
  }
}

export async function collected(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}
