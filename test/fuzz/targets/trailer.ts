/** Trailers and origins: what is accepted has sane numbers, and is the same when it is written and read again. */

import assert from 'node:assert/strict';
import {
  type ChainEnd,
  MAX_TRAILER_SIZE,
  type ObjectTrailer,
  announcesOrigin,
  decodeTrailer,
  encodeTrailer,
  trailerSize,
} from '../../../src/format/object-trailer.ts';
import { MAX_GENERATIONS, MAX_TIME_MS, decodeOrigin, originSize } from '../../../src/format/origin-frame.ts';
import { isGeneration } from '../../../src/format/names.ts';
import { isPageSize } from '../../../src/sqlite/database-header.ts';
import { type FuzzTarget, checkNatural, refusable } from '../target.ts';
import { encoded, repairTrailers } from '../trailer-parts.ts';

const CODES = ['corrupt', 'unsupported'] as const;

function checkEnd({ index, offset, checksum }: ChainEnd, what: string): void {
  checkNatural(index, `${what}.index`, 0xffff_ffff);
  checkNatural(offset, `${what}.offset`);
  for (const word of checksum) checkNatural(word, `${what}.checksum`, 0xffff_ffff);
}

/** Every number is one that arithmetic keeps exact, and every time one that a Date holds. */
export function checkTrailer(trailer: ObjectTrailer): void {
  assert(isGeneration(trailer.generation));
  assert(isPageSize(trailer.pageSizeBytes));
  const { origin } = trailer;
  if (origin) {
    assert(origin.generations.length > 0 && origin.generations.length <= MAX_GENERATIONS);
    for (const name of origin.generations) assert(isGeneration(name));
    if (origin.end) checkEnd(origin.end, 'origin');
    if (origin.end) checkNatural(origin.end.timeMs, 'origin.timeMs', MAX_TIME_MS);
  }
  if (trailer.kind === 'snapshot') {
    checkEnd(trailer, 'snapshot');
    checkNatural(trailer.timeMs, 'timeMs', MAX_TIME_MS);
    checkNatural(trailer.sizeBytes, 'sizeBytes');
    return;
  }
  const { commits, start, end } = trailer;
  checkEnd({ ...trailer, offset: end }, 'segment');
  checkNatural(start, 'start', end);
  if (trailer.previous) checkEnd(trailer.previous, 'previous');
  let before = { offset: start, timeMs: 0 };
  for (const commit of commits) {
    checkNatural(commit.offset, 'offset', end);
    checkNatural(commit.timeMs, 'timeMs', MAX_TIME_MS);
    assert(commit.offset > before.offset && commit.timeMs >= before.timeMs, 'commits ascend');
    before = commit;
  }
  assert.equal(before.offset, end);
}

function readTrailer(data: Uint8Array): ObjectTrailer | undefined {
  const size = trailerSize(data);
  if (size === undefined || size > data.byteLength) return undefined;
  assert(size <= MAX_TRAILER_SIZE);
  const [frame, before] = [data.subarray(-size), data.subarray(0, data.byteLength - size)];
  if (!announcesOrigin(frame)) return decodeTrailer(frame);
  const origin = originSize(before);
  return decodeTrailer(frame, origin === undefined ? undefined : before.subarray(-origin));
}

export const target: FuzzTarget = {
  name: 'trailer',
  seeds: encoded,
  maxBytes: 2048,
  repair: repairTrailers,
  run(data) {
    const whole = refusable(CODES, () => decodeTrailer(data));
    refusable(CODES, () => decodeOrigin(data));
    for (const trailer of [whole, refusable(CODES, () => readTrailer(data))]) {
      if (!trailer) continue;
      checkTrailer(trailer);
      // An origin of a later version is undefined, and is not written.
      assert.deepEqual(
        { origin: undefined, ...readTrailer(encodeTrailer(trailer)) },
        { origin: undefined, ...trailer },
      );
    }
  },
};
