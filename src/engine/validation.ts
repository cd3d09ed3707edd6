/**
 * Validation of a replica: restores it to a temporary file and compares that with the live database at the same
 * position, without keeping writers or, for longer than one pass over the file takes, checkpoints waiting.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Position } from '../format/position.ts';
import { WAL_FRAME_HEADER_SIZE, WAL_HEADER_SIZE, readFrameHeader, walFrameSize } from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readRange } from './replica-segment.ts';
import type { SegmentSource, SnapshotHold } from './segment-source.ts';

/** Databases are compared by digests of blocks of this size: a multiple of every page size. */
const BLOCK_SIZE = 1 << 20;
const PARALLELISM = 2;

export interface ValidationRequest {
  /** The replica's name. */
  readonly name: string;
  readonly store: ObjectStore;
  readonly source: SegmentSource;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Resolves when the replica holds everything up to a position. */
  readonly storedThrough: (position: Position) => Promise<void>;
}

export interface ValidationResult {
  /** The position at which the two were compared. */
  readonly position: Position;
  /** How the restored database differs, or why it cannot be restored; undefined when they are equal. */
  readonly problem: string | undefined;
}

/** A database in short: enough to tell whether two are equal, and where not. */
interface Fingerprint {
  readonly sizeBytes: number;
  /** One digest for each BLOCK_SIZE bytes. */
  readonly blocks: readonly string[];
}

/**
 * Validates once. Rejects when it could not be done, as with an unreachable store; a backup that cannot be restored
 * is a result. Leaves no file behind.
 */
export async function validate(request: ValidationRequest): Promise<ValidationResult> {
  const { name, store, source, signal } = request;
  const hold = await source.holdSnapshot({ signal });
  const { position } = hold;
  let live: Fingerprint;
  try {
    live = await fingerprint(livePages(source, hold, signal));
  } finally {
    await hold.release();
  }
  await request.storedThrough(position);
  // Loaded by those who validate only.
  const { restore } = await import('./restore.ts');
  const outputPath = validationPath(source, name);
  await removeValidationFiles(source, name);
  try {
    await restore({
      replicas: [{ name, store }],
      outputPath,
      generation: position.generation,
      upTo: position,
      parallelism: PARALLELISM,
      logger: quiet(request.logger),
      signal,
    });
    const restored = await fingerprint(createReadStream(outputPath, { highWaterMark: BLOCK_SIZE, signal }));
    return { position, problem: difference(live, restored, source.pageSizeBytes) };
  } catch (error) {
    if (hasCode(error, 'gap', 'corrupt', 'not-found', 'no-backup'))
      return { position, problem: error.message };
    throw error;
  } finally {
    await removeValidationFiles(source, name);
  }
}

function validationPath(source: SegmentSource, name: string): string {
  return join(source.metaPath, `validation-${encodeURIComponent(name)}.db`);
}

/** Removes the restored database and whatever a restore that died left beside it. */
export async function removeValidationFiles(source: SegmentSource, name: string): Promise<void> {
  const path = validationPath(source, name);
  for (const entry of await readdir(dirname(path))) {
    if (entry.startsWith(basename(path))) await rm(join(dirname(path), entry), { force: true });
  }
}

/** A logger for the restore: its steps are of no interest while it works. */
function quiet(logger: Logger): Logger {
  return {
    debug: (message, attributes) => logger.debug(message, attributes),
    info: (message, attributes) => logger.debug(message, attributes),
    warn: (message, attributes) => logger.warn(message, attributes),
    error: (message, attributes) => logger.error(message, attributes),
    with: (attributes) => quiet(logger.with(attributes)),
  };
}

function difference(live: Fingerprint, restored: Fingerprint, pageSizeBytes: number): string | undefined {
  if (live.sizeBytes !== restored.sizeBytes) {
    return `restored database has ${restored.sizeBytes} bytes, the live one ${live.sizeBytes}`;
  }
  const block = live.blocks.findIndex((digest, at) => digest !== restored.blocks[at]);
  if (block < 0) return undefined;
  const perBlock = BLOCK_SIZE / pageSizeBytes;
  const last = Math.min((block + 1) * perBlock, live.sizeBytes / pageSizeBytes);
  return `restored database differs from the live one in pages ${block * perBlock + 1} to ${last}`;
}

async function fingerprint(content: AsyncIterable<Uint8Array>): Promise<Fingerprint> {
  const blocks: string[] = [];
  let sizeBytes = 0;
  for await (const block of inBlocks(content)) {
    blocks.push(createHash('sha256').update(block).digest('base64'));
    sizeBytes += block.byteLength;
  }
  return { sizeBytes, blocks };
}

/** The same bytes in blocks of BLOCK_SIZE; the last may be shorter. A block is valid until the next is asked for. */
async function* inBlocks(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const block = new Uint8Array(BLOCK_SIZE);
  let used = 0;
  for await (const chunk of content) {
    for (let at = 0; at < chunk.byteLength;) {
      const count = Math.min(BLOCK_SIZE - used, chunk.byteLength - at);
      block.set(chunk.subarray(at, at + count), used);
      used += count;
      at += count;
      if (used === BLOCK_SIZE) {
        yield block;
        used = 0;
      }
    }
  }
  if (used > 0) yield block.subarray(0, used);
}

/** The pages of the WAL that a held database file does not have yet. */
interface Overlay {
  /** Where the latest image of a page begins in the WAL, by page number from 1. */
  readonly offsets: ReadonlyMap<number, number>;
  /** Size of the database in pages. */
  readonly pageCount: number;
}

/** The live database at the hold's position: its file under the page images of the WAL up to there. */
async function* livePages(
  source: SegmentSource,
  hold: SnapshotHold,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { pageSizeBytes } = source;
  const { offsets, pageCount } = await readOverlay(source, hold);
  const { generation, index } = hold.position;
  const sizeBytes = pageCount * pageSizeBytes;
  let at = 0;
  for await (const block of inBlocks(fileOfSize(hold.read({ signal }), sizeBytes))) {
    for (let start = 0; start < block.byteLength; start += pageSizeBytes) {
      const offset = offsets.get((at + start) / pageSizeBytes + 1);
      if (offset === undefined) continue;
      const end = offset + pageSizeBytes;
      block.set(await readRange(source, { generation, index, start: offset, end }), start);
    }
    yield block;
    at += block.byteLength;
  }
}

/** Content cut to a size, or filled up with zeros: pages that the file does not have yet stand in the WAL. */
async function* fileOfSize(
  content: AsyncIterable<Uint8Array>,
  sizeBytes: number,
): AsyncGenerator<Uint8Array> {
  let left = sizeBytes;
  for await (const chunk of content) {
    yield chunk.byteLength <= left ? chunk : chunk.subarray(0, left);
    left -= Math.min(left, chunk.byteLength);
    if (left === 0) return;
  }
  const zeros = new Uint8Array(Math.min(left, BLOCK_SIZE));
  for (; left > 0; left -= Math.min(left, BLOCK_SIZE)) yield zeros.subarray(0, Math.min(left, BLOCK_SIZE));
}

async function readOverlay(source: SegmentSource, hold: SnapshotHold): Promise<Overlay> {
  const { generation, index, offset: walEnd } = hold.position;
  const frameSize = walFrameSize(source.pageSizeBytes);
  const step = Math.max(1, Math.floor(BLOCK_SIZE / frameSize)) * frameSize;
  const offsets = new Map<number, number>();
  let pageCount = hold.sizeBytes / source.pageSizeBytes;
  for (let start = WAL_HEADER_SIZE; start < walEnd; start += step) {
    const range = { generation, index, start, end: Math.min(walEnd, start + step) };
    const data = await readRange(source, range);
    for (let at = 0; at < data.byteLength; at += frameSize) {
      const frame = readFrameHeader(data, at);
      offsets.set(frame.pageNumber, start + at + WAL_FRAME_HEADER_SIZE);
      if (frame.commitPageCount > 0) pageCount = frame.commitPageCount;
    }
  }
  return { offsets, pageCount };
}
