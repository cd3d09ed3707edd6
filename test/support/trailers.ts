/** What objects of a replica say of themselves, for those who change it. */

import {
  announcesOrigin,
  decodeTrailer,
  encodeTrailer,
  trailerSize,
  type ObjectTrailer,
} from '../../src/format/object-trailer.ts';
import { originSize } from '../../src/format/origin-frame.ts';

function parts(data: Buffer): { trailer: Buffer; origin: Buffer | undefined; rest: Buffer } | undefined {
  const sizeBytes = trailerSize(data);
  if (sizeBytes === undefined) return undefined;
  const before = data.subarray(0, -sizeBytes);
  const trailer = data.subarray(-sizeBytes);
  if (!announcesOrigin(trailer)) return { trailer, origin: undefined, rest: before };
  const originBytes = originSize(before) ?? 0;
  return { trailer, origin: before.subarray(-originBytes), rest: before.subarray(0, -originBytes) };
}

/** What an object says of itself; undefined when it says nothing. */
export function trailerIn(data: Buffer): ObjectTrailer | undefined {
  const found = parts(data);
  return found && decodeTrailer(found.trailer, found.origin);
}

/** The data frame alone. */
export function withoutTrailer(data: Buffer): Buffer {
  return parts(data)?.rest ?? data;
}

/** A snapshot that says that it is of another time; anything else as it is. */
export function redated(data: Buffer, timeMs: number): Buffer {
  const trailer = trailerIn(data);
  if (trailer?.kind !== 'snapshot') return data;
  return Buffer.concat([withoutTrailer(data), encodeTrailer({ ...trailer, timeMs })]);
}
