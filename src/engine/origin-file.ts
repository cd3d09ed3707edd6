/**
 * Which generations one follows, as the meta directory remembers it: `generations/G/origin.json`. It is durable before
 * the generation is, and goes with it.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileDurably } from '../base/durable-file.ts';
import { wrapError } from '../base/errors.ts';
import { isGeneration } from '../format/names.ts';
import { MAX_GENERATIONS, type Origin } from '../format/origin-frame.ts';

const ORIGIN_FILE = 'origin.json';
const VERSION = 1;

/**
 * What a new generation follows.
 * @param before the generation that the meta directory names; undefined: none, and nothing is known
 * @param end where it stood
 * @throws LitestreamError
 */
export async function originAfter(
  metaPath: string,
  before: string | undefined,
  end: Origin['end'],
): Promise<Origin | undefined> {
  if (before === undefined) return undefined;
  return following([before, ...((await readOriginFile(metaPath, before))?.generations ?? [])], end);
}

/** What a new generation follows when another process goes on with the one before: what that one follows. */
export async function originBeside(
  metaPath: string,
  before: string | undefined,
): Promise<Origin | undefined> {
  return before === undefined ? undefined : readOriginFile(metaPath, before);
}

/** The origin of a generation that follows these, the nearest first. @returns undefined without any */
export function following(generations: readonly string[], end: Origin['end']): Origin | undefined {
  const names = [...new Set(generations)].slice(0, MAX_GENERATIONS);
  return names.length === 0 ? undefined : { generations: names, end };
}

/** @param directory of the new generation @throws LitestreamError */
export async function writeOriginFile(directory: string, origin: Origin): Promise<void> {
  const path = join(directory, ORIGIN_FILE);
  try {
    await writeFileDurably(path, `${JSON.stringify({ version: VERSION, ...origin })}\n`);
  } catch (error) {
    throw wrapError(error, `write ${path}`);
  }
}

/** Undefined where nothing is known, as of a generation of v0.3.13's, or nothing can be read. Never rejects. */
export async function readOriginFile(metaPath: string, generation: string): Promise<Origin | undefined> {
  try {
    return parseOrigin(await readFile(join(metaPath, 'generations', generation, ORIGIN_FILE), 'utf8'));
  } catch {
    return undefined;
  }
}

/** Undefined for what makes no sense, as in a file that somebody has edited. */
export function parseOrigin(text: string): Origin | undefined {
  try {
    const { version, generations, end } = JSON.parse(text) as Partial<Origin> & { version?: number };
    if (version !== VERSION || !Array.isArray(generations)) return undefined;
    return following(
      generations.filter((name) => typeof name === 'string' && isGeneration(name)),
      isEnd(end) ? end : undefined,
    );
  } catch {
    return undefined;
  }
}

function isEnd(value: unknown): value is NonNullable<Origin['end']> {
  if (typeof value !== 'object' || value === null) return false;
  const { index, offset, checksum, timeMs } = value as Record<string, unknown>;
  if (!Array.isArray(checksum) || checksum.length !== 2) return false;
  const numbers: readonly unknown[] = [index, offset, timeMs, ...(checksum as unknown[])];
  return numbers.every((number) => Number.isSafeInteger(number) && Number(number) >= 0);
}
