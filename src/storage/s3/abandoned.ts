/** Ends uploads that nobody goes on with: their parts cost, and show in no listing of objects. */

import { AbortMultipartUploadCommand, ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import { hasCode } from '../../base/errors.ts';
import type { CallOptions } from '../object-store.ts';
import type { S3Session } from './session.ts';

/**
 * Aborts the uploads of keys under `prefix` that were begun before a time, but for those of this session.
 * @returns how many
 */
export async function abortAbandoned(
  session: S3Session,
  prefix: string,
  before: Date,
  { signal }: CallOptions,
): Promise<number> {
  const { Bucket, Key: Prefix } = session.object(prefix);
  const what = `list unfinished uploads of ${prefix}`;
  let aborted = 0;
  let keyMarker: string | undefined;
  let idMarker: string | undefined;
  do {
    const at = { KeyMarker: keyMarker, UploadIdMarker: idMarker };
    const command = new ListMultipartUploadsCommand({ Bucket, Prefix, ...at });
    const { output } = await session.send(command, what, signal);
    for (const { Key, UploadId, Initiated } of output.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || session.uploads.has(UploadId)) continue;
      if (!Key.startsWith(Prefix) || Initiated === undefined || Initiated >= before) continue;
      aborted += await abort(session, { Bucket, Key, UploadId }, signal);
    }
    keyMarker = output.IsTruncated === true ? output.NextKeyMarker : undefined;
    idMarker = output.NextUploadIdMarker;
  } while (keyMarker !== undefined);
  return aborted;
}

/** 0 when it has ended in the meantime. */
async function abort(
  session: S3Session,
  upload: { readonly Bucket: string; readonly Key: string; readonly UploadId: string },
  signal: AbortSignal | undefined,
): Promise<0 | 1> {
  try {
    const what = `abort the unfinished upload of ${session.keyOf(upload.Key)}`;
    await session.send(new AbortMultipartUploadCommand(upload), what, signal);
    return 1;
  } catch (error) {
    if (hasCode(error, 'not-found')) return 0;
    throw error;
  }
}
