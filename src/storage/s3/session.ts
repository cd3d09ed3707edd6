/** Sends the SDK's commands for one bucket and key prefix, and gives our errors. */

import { HeadObjectCommand } from '@aws-sdk/client-s3';
import type {
  $Command,
  S3Client,
  S3ClientResolvedConfig,
  ServiceInputTypes,
  ServiceOutputTypes,
} from '@aws-sdk/client-s3';
import { allowManyListeners, throwIfAborted } from '../../base/concurrency.ts';
import { hasCode } from '../../base/errors.ts';
import type { ObjectInfo } from '../object-store.ts';
import { versionOf } from '../version.ts';
import { hasS3Code, s3Error } from './errors.ts';
import type { S3Target } from './errors.ts';

type Command<I extends ServiceInputTypes, O extends ServiceOutputTypes> = $Command<
  I,
  O,
  S3ClientResolvedConfig,
  ServiceInputTypes,
  ServiceOutputTypes
>;

export interface Answer<O> {
  readonly output: O;
  /** The server's time of the answer; ours when it sent none. */
  readonly date: Date;
}

export class S3Session {
  readonly target: S3Target;
  /** Ids of the uploads in parts that are under way. */
  readonly uploads: Set<string> = new Set();
  readonly #client: S3Client;
  /** Empty, or ends with a slash. */
  readonly #prefix: string;

  constructor(client: S3Client, target: S3Target, path: string) {
    this.#client = client;
    this.target = target;
    this.#prefix = path === '' ? '' : `${path}/`;
  }

  /** The object of a key of ours, as commands name it. */
  object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.target.bucket, Key: this.#prefix + key };
  }

  /** The key of ours for an object's name in the bucket. */
  keyOf(name: string): string {
    return name.slice(this.#prefix.length);
  }

  /** @param what - the operation and its object, for messages. */
  async send<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
    command: Command<I, O>,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<Answer<O>> {
    throwIfAborted(signal);
    allowManyListeners(signal);
    let date: string | undefined;
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        const { headers } = result.response as { headers?: Record<string, string> };
        date = headers?.['date'];
        return result;
      },
      { step: 'deserialize', name: 'serverDate' },
    );
    try {
      const output = await this.#client.send(command, signal === undefined ? {} : { abortSignal: signal });
      return { output, date: parseDate(date) };
    } catch (error) {
      throw s3Error(error, what, this.target, signal);
    }
  }

  /** Size and time of an object; undefined when it is not there. */
  async stat(key: string, signal: AbortSignal | undefined): Promise<ObjectInfo | undefined> {
    try {
      const { output } = await this.send(new HeadObjectCommand(this.object(key)), `head ${key}`, signal);
      const { ContentLength = 0, LastModified = new Date(0), ETag } = output;
      return { key, sizeBytes: ContentLength, modifiedAt: LastModified, version: versionOf(ETag) };
    } catch (error) {
      // An answer to HEAD has no body to say what it is that is not there.
      if (hasCode(error, 'not-found') || hasS3Code(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  close(): void {
    this.#client.destroy();
  }
}

function parseDate(text: string | undefined): Date {
  const ms = Date.parse(text ?? '');
  return Number.isNaN(ms) ? new Date() : new Date(ms);
}
