/**
 * The payload of an age file: chunks of 64 KiB, each encrypted and authenticated by itself (ChaCha20-Poly1305), numbered,
 * the last one marked. Nothing but the key of the payload is known here.
 */

import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { LitestreamError } from '../../base/errors.ts';

export const NONCE_SIZE = 16;
/** Content of each chunk but the last. */
export const CHUNK_SIZE: number = 64 << 10;
/** By how much a chunk is larger when it is encrypted. */
export const OVERHEAD = 16;
const SEALED_SIZE = CHUNK_SIZE + OVERHEAD;
const ALGORITHM = 'chacha20-poly1305';

/** @param nonce of the file: NONCE_SIZE bytes */
export function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', fileKey, nonce, 'payload', 32));
}

export function sealedSize(contentBytes: number): number {
  return contentBytes + OVERHEAD * Math.max(1, Math.ceil(contentBytes / CHUNK_SIZE));
}

/** Size of the content of whole chunks, the last of which may be shorter. @throws LitestreamError 'corrupt' */
export function contentSizeOf(sealedBytes: number): number {
  const chunks = Math.ceil(sealedBytes / SEALED_SIZE);
  checkChunk(sealedBytes - (chunks - 1) * SEALED_SIZE, chunks - 1);
  return sealedBytes - chunks * OVERHEAD;
}

/** A chunk is empty only when the whole content is. */
function checkChunk(sealedBytes: number, number: number): void {
  if (sealedBytes < OVERHEAD || (sealedBytes === OVERHEAD && number > 0)) {
    throw new LitestreamError('corrupt', 'the encrypted object was cut short');
  }
}

/** The chunk that byte `at` of the content is in. */
export function chunkAround(at: number): {
  readonly number: number;
  /** Where it begins in the content. */
  readonly content: number;
  /** Where it begins in the payload, and where the next one does. */
  readonly start: number;
  readonly end: number;
} {
  const number = Math.floor(at / CHUNK_SIZE);
  return {
    number,
    content: number * CHUNK_SIZE,
    start: number * SEALED_SIZE,
    end: (number + 1) * SEALED_SIZE,
  };
}

function chunkNonce(number: number, last: boolean): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(number, 5, 6);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

function seal(key: Uint8Array, content: Uint8Array, number: number, last: boolean): Uint8Array {
  const cipher = createCipheriv(ALGORITHM, key, chunkNonce(number, last), { authTagLength: OVERHEAD });
  return Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]);
}

/** Undefined when it is not that chunk, or was changed. */
function unseal(key: Uint8Array, sealed: Uint8Array, number: number, last: boolean): Uint8Array | undefined {
  const decipher = createDecipheriv(ALGORITHM, key, chunkNonce(number, last), { authTagLength: OVERHEAD });
  const end = sealed.byteLength - OVERHEAD;
  const content = decipher.update(sealed.subarray(0, end));
  decipher.setAuthTag(sealed.subarray(end));
  try {
    decipher.final();
    return content;
  } catch {
    return undefined;
  }
}

/** Pieces of `size` bytes and a last one that may be shorter, with the word which one it is. A piece is valid until the next. */
async function* pieces(
  source: AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<{ readonly piece: Uint8Array; readonly last: boolean }> {
  const piece = Buffer.allocUnsafe(size);
  let used = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.byteLength;) {
      if (used === size) {
        yield { piece, last: false };
        used = 0;
      }
      const part = chunk.subarray(at, at + size - used);
      piece.set(part, used);
      used += part.byteLength;
      at += part.byteLength;
    }
  }
  yield { piece: piece.subarray(0, used), last: true };
}

/** The payload of `content`. Chunks of it need not outlive the next one. */
export async function* sealStream(
  content: AsyncIterable<Uint8Array>,
  key: Uint8Array,
): AsyncGenerator<Uint8Array> {
  let number = 0;
  for await (const { piece, last } of pieces(content, CHUNK_SIZE)) yield seal(key, piece, number++, last);
}

/** The payload of `content`, made at once. */
export function sealBytes(content: Uint8Array, key: Uint8Array): Uint8Array[] {
  const count = Math.max(1, Math.ceil(content.byteLength / CHUNK_SIZE));
  return Array.from({ length: count }, (_, number) =>
    seal(key, content.subarray(number * CHUNK_SIZE, (number + 1) * CHUNK_SIZE), number, number === count - 1),
  );
}

export interface UnsealOptions {
  /** Number of the first chunk. */
  readonly first: number;
  /** Whether the chunks go on to the end of the object; else the last of them may be the object's last, or not. */
  readonly toEnd: boolean;
}

/**
 * The content of chunks.
 * @throws LitestreamError 'corrupt' when one was changed, moved, or is missing
 */
export async function* unsealStream(
  sealed: AsyncIterable<Uint8Array>,
  key: Uint8Array,
  { first, toEnd }: UnsealOptions,
): AsyncGenerator<Uint8Array> {
  let number = first;
  for await (const { piece, last } of pieces(sealed, SEALED_SIZE)) {
    checkChunk(piece.byteLength, number);
    const middle = last && toEnd ? undefined : unseal(key, piece, number, false);
    const content = middle ?? (last ? unseal(key, piece, number, true) : undefined);
    if (content === undefined) {
      const start = number * SEALED_SIZE;
      throw new LitestreamError(
        'corrupt',
        `the encrypted bytes ${start} to ${start + piece.byteLength} were changed, or what follows them is missing`,
      );
    }
    if (content.byteLength > 0) yield content;
    number++;
  }
}
