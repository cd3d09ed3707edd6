/** Uploads one body in parts: a few in flight at once, each retried by itself, published whole or not at all. */

import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { linkSignals } from '../../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf } from '../../base/errors.ts';
import { BODY_ATTEMPTS, sendParts } from '../part-sender.ts';
import type { SendOptions } from '../part-sender.ts';
import type { Part } from '../parts.ts';
import type { Stored } from '../put-body.ts';
import { objectExists } from '../object-exists.ts';
import { retrying } from '../retry.ts';
import { versionOf } from '../version.ts';
import { hasS3Code } from './errors.ts';
import type { S3Session } from './session.ts';

/** An upload that fails must not hold up a shutdown for long. */
const ABORT_TIMEOUT_MS = 3_000;

/**
 * Uploads `parts` as the object `key` (with the store's prefix).
 * @throws LitestreamError; the upload is aborted then, so that no parts stay behind, as far as the store can be reached.
 */
export async function uploadParts(
  session: S3Session,
  key: string,
  parts: AsyncIterable<Part>,
  options: Pick<SendOptions, 'concurrency' | 'signal' | 'spare'> & { readonly ifAbsent: boolean },
): Promise<Stored> {
  const { signal, ifAbsent } = options;
  const failed = new AbortController();
  const { signal: stop, unlink } = linkSignals(signal, failed.signal);
  const beginning = begin(session, key, signal);
  // The first parts are read while the store makes the upload.
  const sendPart = async (part: Part, partSignal: AbortSignal): Promise<void> =>
    (await beginning).upload.sendPart(part, partSignal);
  const sending = sendParts(parts, sendPart, { ...options, what: `put ${key}`, signal: stop });
  sending.catch(() => undefined);
  try {
    const [begun] = await Promise.allSettled([beginning]);
    if (begun.status === 'rejected') {
      failed.abort();
      await Promise.allSettled([sending]);
      throw begun.reason;
    }
    return await finish(session, begun.value, sending, { signal, ifAbsent });
  } finally {
    unlink();
  }
}

interface CompleteOptions {
  readonly signal: AbortSignal | undefined;
  /** Fails with 'exists' when there is such an object, where the server can tell. */
  readonly ifAbsent: boolean;
}

interface Begun {
  readonly upload: Upload;
  readonly uploadId: string;
  readonly begunAt: Date;
}

async function finish(
  session: S3Session,
  { upload, uploadId, begunAt }: Begun,
  sending: Promise<number>,
  options: CompleteOptions,
): Promise<Stored> {
  try {
    const sizeBytes = await sending;
    const version = await upload.complete(sizeBytes, options);
    return { sizeBytes, modifiedAt: begunAt, version };
  } catch (error) {
    throw await upload.abort(error);
  } finally {
    session.uploads.delete(uploadId);
  }
}

async function begin(session: S3Session, key: string, signal: AbortSignal | undefined): Promise<Begun> {
  const { output, date } = await retrying(
    () => session.send(new CreateMultipartUploadCommand(session.object(key)), `put ${key}`, signal),
    { attempts: BODY_ATTEMPTS, signal },
  );
  const uploadId = output.UploadId;
  if (uploadId === undefined) throw new LitestreamError('io', `put ${key}: the store gave no upload id`);
  session.uploads.add(uploadId);
  return { upload: new Upload(session, key, uploadId), uploadId, begunAt: date };
}

class Upload {
  readonly #session: S3Session;
  readonly #key: string;
  readonly #uploadId: string;
  readonly #parts: CompletedPart[] = [];

  constructor(session: S3Session, key: string, uploadId: string) {
    this.#session = session;
    this.#key = key;
    this.#uploadId = uploadId;
  }

  get #target(): { Bucket: string; Key: string; UploadId: string } {
    return { ...this.#session.object(this.#key), UploadId: this.#uploadId };
  }

  async sendPart({ number, data }: Part, stop: AbortSignal): Promise<void> {
    const part = { ...this.#target, PartNumber: number, Body: data, ContentLength: data.length };
    const what = `put ${this.#key} (part ${number})`;
    const sent = await this.#session.send(new UploadPartCommand(part), what, stop);
    this.#parts[number - 1] = { PartNumber: number, ETag: sent.output.ETag };
  }

  /**
   * Publishes the object of that size. Asked again after an answer was lost, the store may no longer know the upload: it is done then.
   * @returns its version, where an answer tells it
   */
  async complete(sizeBytes: number, { signal, ifAbsent }: CompleteOptions): Promise<string | undefined> {
    let condition = ifAbsent ? { IfNoneMatch: '*' } : {};
    const what = `put ${this.#key} (complete)`;
    let attempts = 0;
    return retrying(
      async () => {
        attempts++;
        try {
          const command = { ...this.#target, ...condition, MultipartUpload: { Parts: this.#parts } };
          const { output } = await this.#session.send(
            new CompleteMultipartUploadCommand(command),
            what,
            signal,
          );
          return versionOf(output.ETag);
        } catch (error) {
          const exists = hasS3Code(error, 'PreconditionFailed');
          if (exists && attempts === 1) throw objectExists(this.#key);
          // It may be the condition that the server does not take.
          if (!exists && 'IfNoneMatch' in condition && hasCode(error, 'io', 'unsupported')) {
            condition = {};
            attempts = 0;
            throw new LitestreamError('unavailable', messageOf(error), { cause: error });
          }
          if (
            attempts === 1 ||
            hasCode(error, 'unavailable', 'aborted') ||
            !(await this.#isThere(sizeBytes, signal))
          ) {
            throw error;
          }
          return undefined;
        }
      },
      { attempts: BODY_ATTEMPTS, signal },
    );
  }

  async #isThere(sizeBytes: number, signal: AbortSignal | undefined): Promise<boolean> {
    return (await this.#session.stat(this.#key, signal))?.sizeBytes === sizeBytes;
  }

  /** Drops the parts that are in the store; gives the error to throw: `cause`, and that parts were left if they were. */
  async abort(cause: unknown): Promise<unknown> {
    try {
      await this.#session.send(
        new AbortMultipartUploadCommand(this.#target),
        'abort the upload',
        AbortSignal.timeout(ABORT_TIMEOUT_MS),
      );
      return cause;
    } catch (error) {
      if (!(cause instanceof LitestreamError)) return cause;
      const options = {
        cause,
        ...(cause.retryAfterMs === undefined ? {} : { retryAfterMs: cause.retryAfterMs }),
      };
      return new LitestreamError(
        cause.code,
        `${cause.message} (parts of the upload may be left in the store: ${messageOf(error)})`,
        options,
      );
    }
  }
}
