/** A place in the history of a database: generation, WAL index, byte offset in that WAL. */

import { assert } from '../base/errors.ts';

export interface Position {
  /** 16 lowercase hex digits. */
  readonly generation: string;
  /** Number of the WAL within the generation, from 0. */
  readonly index: number;
  /** Byte offset in that WAL file: 0, or the end of a commit frame. */
  readonly offset: number;
}

/** Negative, zero or positive like a comparator; both positions must be of one generation. */
export function comparePositions(a: Position, b: Position): number {
  assert(a.generation === b.generation, 'positions of different generations have no order');
  return a.index - b.index || a.offset - b.offset;
}

/** `generation/index:offset` with index as 8 hex digits and offset in decimal, as v0.3.13 logs it. */
export function formatPosition(position: Position): string {
  return `${position.generation}/${position.index.toString(16).padStart(8, '0')}:${position.offset}`;
}
