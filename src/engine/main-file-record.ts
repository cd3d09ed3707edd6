/**
 * How the database file was when its last session ended, `generations/G/database.json` in the meta directory: whoever
 * overwrites it while nobody replicates it and leaves its WAL makes another database of it, of which the generation knows
 * nothing although its WAL goes on. It is only ever a help: without it, as after a kill, the file is believed.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileDurably } from '../base/durable-file.ts';
import { WAL_HEADER_SIZE, walFrameSize } from '../sqlite/wal.ts';
import { firstPageKeys, keyOf, type FileTimes, type MainFileView } from './main-file.ts';
import type { ShadowWal, WalChain } from './shadow-wal.ts';

const RECORD_FILE = 'database.json';
const VERSION = 1;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Copies and archives that keep times may round them to one of these, and floating point numbers have an error. */
const UNITS_NS = [1_000_000_000n, 1_000_000n] as const;
const ERROR_NS = 1000n;

/** `database.json`. */
interface MainFileRecord {
  readonly version: number;
  /** What was copied of the WAL. */
  readonly index: number;
  readonly offset: number;
  /** Frames of it that were in the file. */
  readonly backfilled: number;
  /** Of the file: decimal numbers. */
  readonly sizeBytes: string;
  readonly modifiedNs: string;
  /** Of the first page. */
  readonly key: string;
}

type Known = Pick<MainFileRecord, 'index' | 'offset' | 'backfilled' | 'key'> & { readonly times: FileTimes };

/** A session at its beginning or end. */
export interface Copied {
  readonly files: Omit<MainFileView, 'page'>;
  readonly shadow: ShadowWal;
  readonly chain: WalChain;
}

/** Remembers the file as it is; to be called when it is known to be what it should be. Never rejects. */
export async function noteMainFile({ files, shadow, chain }: Copied): Promise<void> {
  try {
    const { sizeBytes, modifiedNs } = files.times();
    const record: MainFileRecord = {
      version: VERSION,
      index: chain.index,
      offset: chain.offset,
      backfilled: files.readWalIndex()?.backfilled ?? 0,
      sizeBytes: String(sizeBytes),
      modifiedNs: String(modifiedNs),
      key: keyOf(files.start()),
    };
    await writeFileDurably(join(shadow.path, RECORD_FILE), `${JSON.stringify(record)}\n`);
  } catch {
    // Then the next session believes the file.
  }
}

/**
 * Why the file is not the one of which the last session copied the WAL; to be called when all of the present WAL is
 * copied.
 * @returns undefined: checkpoints of this WAL explain it, or nothing is known
 * @throws LitestreamError 'gap', 'io' when the shadow WAL cannot be read
 */
export async function findRewrittenSince(
  copied: Copied & { readonly pageSizeBytes: number },
): Promise<string | undefined> {
  const { files, shadow, chain } = copied;
  const record = await readRecord(shadow.path);
  // Of an index that is over it tells nothing: each checkpoint since then may have written any page.
  if (record?.index !== chain.index || isSameFile(record.times, files.times())) return undefined;
  const backfilled = files.readWalIndex()?.backfilled ?? 0;
  const untouched = chain.offset === record.offset && backfilled <= record.backfilled;
  const key = keyOf(files.start());
  if (!untouched && (key === record.key || (await holdsFirstPage(copied, key)))) return undefined;
  return 'database file was overwritten or copied while nobody replicated it';
}

/** Undefined where there is none, or one that nothing can be learnt from. */
async function readRecord(directory: string): Promise<Known | undefined> {
  try {
    const text = await readFile(join(directory, RECORD_FILE), 'utf8');
    const { version, sizeBytes, modifiedNs, ...known } = JSON.parse(text) as MainFileRecord;
    const times = { sizeBytes: BigInt(sizeBytes), modifiedNs: BigInt(modifiedNs) };
    return version === VERSION ? { ...known, times } : undefined;
  } catch {
    return undefined;
  }
}

function isSameFile(then: FileTimes, now: FileTimes): boolean {
  if (then.sizeBytes !== now.sizeBytes) return false;
  const differenceNs = distance(now.modifiedNs, then.modifiedNs);
  const isRounded = (unit: bigint): boolean =>
    differenceNs <= unit && distance(now.modifiedNs, roundTo(now.modifiedNs, unit)) <= ERROR_NS;
  return differenceNs <= ERROR_NS || UNITS_NS.some(isRounded);
}

function roundTo(value: bigint, unit: bigint): bigint {
  return ((value + unit / 2n) / unit) * unit;
}

function distance(a: bigint, b: bigint): bigint {
  return a > b ? a - b : b - a;
}

/** Whether some commit of the present WAL has made that first page. */
async function holdsFirstPage(
  { shadow, chain, pageSizeBytes }: Copied & { readonly pageSizeBytes: number },
  key: string,
): Promise<boolean> {
  const frameSize = walFrameSize(pageSizeBytes);
  const step = Math.max(1, Math.floor(CHUNK_BYTES / frameSize)) * frameSize;
  for (let at = WAL_HEADER_SIZE; at < chain.offset; at += step) {
    const data = await shadow.read(chain.index, at, Math.min(chain.offset, at + step));
    for (const found of firstPageKeys(pageSizeBytes, data)) if (found === key) return true;
  }
  return false;
}
