/** The head of an age file: the text header and the nonce, behind which the payload begins. */

import { LitestreamError } from '../../base/errors.ts';
import { NONCE_SIZE } from './stream.ts';

/** How every age file begins. */
const INTRO = Buffer.from('age-encryption.org/v1\n');
/** Begins the line that ends the header. */
const LAST_LINE = '\n--- ';
/** More than the headers for hundreds of recipients have. */
export const MAX_HEAD_SIZE: number = 64 << 10;

export interface Head {
  /** Everything before the nonce. */
  readonly header: Uint8Array;
  readonly nonce: Uint8Array;
}

/**
 * The head of an object.
 * @param data its first bytes, as many as are there so far
 * @param complete whether there are no more, or MAX_HEAD_SIZE
 * @returns undefined when more are needed; 'plain' when the object is not encrypted
 * @throws LitestreamError 'corrupt' when it begins like an age file and has no head
 */
export function parseHead(data: Buffer, complete: boolean): Head | 'plain' | undefined {
  const known = Math.min(data.byteLength, INTRO.byteLength);
  if (!data.subarray(0, known).equals(INTRO.subarray(0, known))) return 'plain';
  if (known < INTRO.byteLength) return complete ? 'plain' : undefined;
  const lastLine = data.indexOf(LAST_LINE);
  const end = lastLine < 0 ? -1 : data.indexOf('\n', lastLine + LAST_LINE.length);
  if (end >= 0 && end + 1 + NONCE_SIZE <= data.byteLength) {
    return { header: data.subarray(0, end + 1), nonce: data.subarray(end + 1, end + 1 + NONCE_SIZE) };
  }
  if (complete) throw new LitestreamError('corrupt', 'the age header has no end');
  return undefined;
}
