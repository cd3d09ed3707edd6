/**
 * Names of objects in a replica and of files in the meta directory: v0.3.13's layout (docs/format.md).
 * Indexes and offsets are 8 lowercase hex digits; anything else is not ours and is ignored.
 */

import { randomBytes } from 'node:crypto';
import { LitestreamError, assert } from '../base/errors.ts';

const GENERATION = /^[0-9a-f]{16}$/;
const SNAPSHOT = /^([0-9a-f]{8})\.snapshot\.lz4$/;
const SEGMENT = /^([0-9a-f]{8})_([0-9a-f]{8})\.wal\.lz4$/;
const SHADOW = /^([0-9a-f]{8})\.wal$/;

/** The largest index and offset that eight hex digits hold; v0.3.13 does not see names with nine. */
export const MAX_INDEX = 0xffff_ffff;
export const MAX_OFFSET = 0xffff_ffff;

/** A fresh random generation name. */
export function newGeneration(): string {
  return randomBytes(8).toString('hex');
}

export function isGeneration(name: string): boolean {
  return GENERATION.test(name);
}

function hex8(value: number, what: string): string {
  assert(Number.isInteger(value) && value >= 0, `${what} ${value} is not a natural number`);
  if (value > MAX_OFFSET) {
    throw new LitestreamError(
      'unsupported',
      `${what} ${value} exceeds the eight hex digits of the replica's format`,
    );
  }
  return value.toString(16).padStart(8, '0');
}

/** An index as it stands in names and messages: 8 hex digits. */
export function formatIndex(index: number): string {
  return hex8(index, 'index');
}

export const GENERATIONS_PREFIX = 'generations/';

/** Of all objects of a generation. */
export function generationPrefix(generation: string): string {
  return `${GENERATIONS_PREFIX}${generation}/`;
}

export function snapshotsPrefix(generation: string): string {
  return `${GENERATIONS_PREFIX}${generation}/snapshots/`;
}

export function segmentsPrefix(generation: string): string {
  return `${GENERATIONS_PREFIX}${generation}/wal/`;
}

export function snapshotKey(generation: string, index: number): string {
  return `${snapshotsPrefix(generation)}${hex8(index, 'index')}.snapshot.lz4`;
}

export function segmentKey(generation: string, index: number, offset: number): string {
  return `${segmentsPrefix(generation)}${hex8(index, 'index')}_${hex8(offset, 'offset')}.wal.lz4`;
}

/** File name of a shadow WAL in `META/generations/GENERATION/wal/`. */
export function shadowName(index: number): string {
  return `${hex8(index, 'index')}.wal`;
}

/** The index in a snapshot's file name, or undefined for any other name. */
export function parseSnapshotName(name: string): number | undefined {
  const match = SNAPSHOT.exec(name);
  return match?.[1] === undefined ? undefined : parseInt(match[1], 16);
}

/** Index and offset in a segment's file name, or undefined for any other name. */
export function parseSegmentName(name: string): { index: number; offset: number } | undefined {
  const match = SEGMENT.exec(name);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  return { index: parseInt(match[1], 16), offset: parseInt(match[2], 16) };
}

/** The index in a shadow WAL's file name, or undefined for any other name. */
export function parseShadowName(name: string): number | undefined {
  const match = SHADOW.exec(name);
  return match?.[1] === undefined ? undefined : parseInt(match[1], 16);
}
