/** Uploads one body in blocks: a few in flight at once, each retried by itself, published whole or not at all. */

import type { BlockBlobCommitBlockListOptions } from '@azure/storage-blob';
import { createHash, randomBytes } from 'node:crypto';
import { BODY_ATTEMPTS, sendParts } from '../part-sender.ts';
import type { SendOptions } from '../part-sender.ts';
import type { Part } from '../parts.ts';
import type { Stored } from '../put-body.ts';
import { retrying } from '../retry.ts';
import { versionOf } from '../version.ts';
import type { AbsSession } from './session.ts';

/**
 * All uncommitted blocks of a blob must have names of one length. This is that of v0.3.13: what one program left there
 * does not stop the other.
 */
const BLOCK_ID_BYTES = 64;

/**
 * Uploads `parts` as the blob of `key`. Blocks that no blob was made of are never seen, and Azure drops them after a
 * week, or when the blob is written again.
 * @param options of the parts, which are called blocks here
 */
export async function uploadBlocks(
  session: AbsSession,
  key: string,
  parts: AsyncIterable<Part>,
  options: Pick<SendOptions, 'concurrency' | 'signal' | 'spare'> & {
    readonly condition: Pick<BlockBlobCommitBlockListOptions, 'conditions'>;
  },
): Promise<Stored> {
  const { signal, condition } = options;
  const what = `put ${key}`;
  // Of this upload alone: one that runs at the same time, or died, must not lend a block.
  const upload = randomBytes(16);
  const ids: string[] = [];
  const stage = async ({ number, data }: Part, stop: AbortSignal): Promise<void> => {
    const id = blockId(upload, number);
    await session.sendFor(
      key,
      (blob, call) => blob.stageBlock(id, bufferOf(data), data.length, { ...call, ...checksumOf(data) }),
      `${what} (block ${number})`,
      stop,
    );
    ids[number - 1] = id;
  };
  const sizeBytes = await sendParts(parts, stage, { ...options, what });
  // Asked again after an answer was lost, Azure finds the same blocks in the blob.
  const { lastModified, etag } = await retrying(
    () =>
      session.sendFor(
        key,
        (blob, call) => blob.commitBlockList(ids, { ...call, ...condition }),
        `${what} (commit)`,
        signal,
      ),
    { attempts: BODY_ATTEMPTS, signal },
  );
  return { sizeBytes, modifiedAt: lastModified ?? new Date(), version: versionOf(etag) };
}

function blockId(upload: Buffer, number: number): string {
  const id = Buffer.alloc(BLOCK_ID_BYTES);
  upload.copy(id);
  id.writeUInt32BE(number, upload.length);
  return id.toString('base64');
}

/** The same bytes as the SDK signs them: it takes the length of a Buffer only. */
export function bufferOf(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.length);
}

/** Makes Azure refuse what was changed on the way. */
export function checksumOf(data: Uint8Array): { transactionalContentMD5: Uint8Array } {
  return { transactionalContentMD5: createHash('md5').update(data).digest() };
}
