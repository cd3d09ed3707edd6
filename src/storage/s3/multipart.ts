/** Uploads one body in parts: a few in flight at once, each retried by itself, published whole or not at all. */

import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { CompletedPart } from '@aws-sdk/client-s3';
import { throwIfAborted } from '../../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf } from '../../base/errors.ts';
import { retrying } from '../retry.ts';
import { MAX_PARTS } from './parts.ts';
import type { Part } from './parts.ts';
import type { S3Session } from './session.ts';

/** Attempts for a part, or for the end of the upload: the body cannot be had again, so it is worth some patience. */
export const BODY_ATTEMPTS = 5;
/** An upload that fails must not hold up a shutdown for long. */
const ABORT_TIMEOUT_MS = 3_000;

export interface Uploaded {
  readonly sizeBytes: number;
  /** When the upload was begun: the time that S3 gives the object. */
  readonly modifiedAt: Date;
}

/**
 * Uploads `parts` as the object `key` (with the store's prefix).
 * @param concurrency - parts in flight at once; one more is held in memory while they are.
 * @throws LitestreamError; the upload is aborted then, so that no parts stay behind, as far as the store can be reached.
 */
export async function uploadParts(
  session: S3Session,
  key: string,
  parts: AsyncIterable<Part>,
  options: { readonly concurrency: number; readonly signal?: AbortSignal | undefined },
): Promise<Uploaded> {
  const { signal } = options;
  const created = await retrying(
    () => session.send(new CreateMultipartUploadCommand(session.object(key)), `put ${key}`, signal),
    { attempts: BODY_ATTEMPTS, signal },
  );
  const uploadId = created.output.UploadId;
  if (uploadId === undefined) throw new LitestreamError('io', `put ${key}: the store gave no upload id`);
  const upload = new Upload(session, key, uploadId);
  try {
    await upload.send(parts, options.concurrency, signal);
    await upload.complete(signal);
    return { sizeBytes: upload.sizeBytes, modifiedAt: created.date };
  } catch (error) {
    throw await upload.abort(error);
  }
}

class Upload {
  readonly #session: S3Session;
  readonly #key: string;
  readonly #uploadId: string;
  readonly #parts: CompletedPart[] = [];
  sizeBytes = 0;

  constructor(session: S3Session, key: string, uploadId: string) {
    this.#session = session;
    this.#key = key;
    this.#uploadId = uploadId;
  }

  get #target(): { Bucket: string; Key: string; UploadId: string } {
    return { ...this.#session.object(this.#key), UploadId: this.#uploadId };
  }

  /** Sends all parts. When one fails, the others are cut off and nothing more is read. Nothing is under way when it ends. */
  async send(
    parts: AsyncIterable<Part>,
    concurrency: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(signal?.reason);
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    const sending = new Set<Promise<void>>();
    let failure: { error: unknown } | undefined;
    const fail = (error: unknown): void => {
      failure ??= { error };
      stop.abort(error);
    };
    try {
      for await (const part of parts) {
        // Reading on only when a part has left bounds what is held in memory.
        while (sending.size >= concurrency) await Promise.race(sending);
        throwIfAborted(stop.signal);
        const sent = this.#sendPart(part, stop.signal)
          .catch(fail)
          .finally(() => sending.delete(sent));
        sending.add(sent);
      }
    } catch (error) {
      fail(error);
    } finally {
      await Promise.all(sending);
      signal?.removeEventListener('abort', onAbort);
    }
    throwIfAborted(signal);
    if (failure !== undefined) throw failure.error;
  }

  async #sendPart({ number, data }: Part, signal: AbortSignal): Promise<void> {
    if (number > MAX_PARTS) {
      throw new LitestreamError(
        'unsupported',
        `put ${this.#key}: larger than the ${MAX_PARTS} parts of S3's limit`,
      );
    }
    const command = { ...this.#target, PartNumber: number, Body: data, ContentLength: data.length };
    const sent = await retrying(
      () => this.#session.send(new UploadPartCommand(command), `put ${this.#key} (part ${number})`, signal),
      { attempts: BODY_ATTEMPTS, signal },
    );
    this.#parts[number - 1] = { PartNumber: number, ETag: sent.output.ETag };
    this.sizeBytes += data.length;
  }

  /** Publishes the object. Asked again after an answer was lost, the store may no longer know the upload: it is done then. */
  async complete(signal: AbortSignal | undefined): Promise<void> {
    const command = { ...this.#target, MultipartUpload: { Parts: this.#parts } };
    const what = `put ${this.#key} (complete)`;
    let attempts = 0;
    await retrying(
      async () => {
        attempts++;
        try {
          await this.#session.send(new CompleteMultipartUploadCommand(command), what, signal);
        } catch (error) {
          if (attempts === 1 || hasCode(error, 'unavailable', 'aborted') || !(await this.#isThere(signal))) {
            throw error;
          }
        }
      },
      { attempts: BODY_ATTEMPTS, signal },
    );
  }

  async #isThere(signal: AbortSignal | undefined): Promise<boolean> {
    return (await this.#session.sizeOf(this.#key, signal)) === this.sizeBytes;
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
