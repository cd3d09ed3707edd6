/**
 * How much of a store's answer is held in memory: a server that lies, or a proxy in its place, may send without end.
 * The bytes of objects are not meant; those are streamed.
 */

import { Transform, pipeline } from 'node:stream';
import type { Readable } from 'node:stream';
import type { Explanation } from './http-failure.ts';

/** Of an answer that is parsed as a whole; a page of a listing is some 300 KB, at most a few MB. */
export const MAX_ANSWER_BYTES: number = 16 << 20;

/** The `code` of the error in a stream that gave more. */
export const ANSWER_TOO_LONG = 'ERR_ANSWER_TOO_LONG';

/** What a driver says of such an answer. @param place for example `bucket "b" at https://…` */
export function explainTooLong(place: string): Explanation {
  const mebibytes = MAX_ANSWER_BYTES >> 20;
  return {
    code: 'io',
    advice: `${place} answered with more than ${mebibytes} MiB where a page of a listing or less belongs: check endpoint`,
  };
}

/** The bytes of `answer`; fails with ANSWER_TOO_LONG, and ends the connection, when there are more than allowed. */
export function limitAnswer(answer: Readable): Readable {
  let left = MAX_ANSWER_BYTES;
  const limited = new Transform({
    transform(chunk: Uint8Array, _, done): void {
      left -= chunk.length;
      if (left >= 0) done(null, chunk);
      else done(Object.assign(new Error('the answer is too long'), { code: ANSWER_TOO_LONG }));
    },
  });
  // Whoever reads is told of errors by the stream that it reads.
  pipeline(answer, limited, () => undefined);
  return limited;
}
