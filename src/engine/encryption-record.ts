/**
 * What a host that encrypts remembers of a replica, in the meta directory, since it may not be able to read it: for whom
 * the generation is encrypted, and where its last segment ends.
 */

import { createHash } from 'node:crypto';
import { messageOf } from '../base/errors.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { ReplicaContext } from './replica-context.ts';
import { readReplicaRecord, writeReplicaRecord } from './replica-record.ts';
import type { SegmentEnd } from './replica-segment.ts';

export interface StoredSegment {
  /** Where it begins in the WAL of its index. */
  readonly start: number;
  readonly end: SegmentEnd;
}

export interface EncryptionRecord {
  readonly generation: string;
  /** recipientsDigest() of those that all of the generation is encrypted for. */
  readonly recipients: string;
  /** The last segment that was stored; undefined before the first. */
  readonly last?: StoredSegment | undefined;
}

/** What is remembered of one generation while it is replicated. */
export class EncryptionMemory {
  /** recipientsDigest() of those that are encrypted for now; undefined: nothing is encrypted. */
  readonly recipients: string | undefined;
  readonly #context: Pick<ReplicaContext, 'source' | 'options' | 'logger'>;
  readonly #generation: string;

  constructor(context: Pick<ReplicaContext, 'source' | 'options' | 'logger'>, generation: string) {
    this.recipients = recipientsDigest(context.options.store);
    this.#context = context;
    this.#generation = generation;
  }

  /** What was remembered of this generation or another one. @throws LitestreamError */
  recall(): Promise<EncryptionRecord | undefined> {
    const { source, options } = this.#context;
    return readEncryptionRecord(source.metaPath, options.name);
  }

  /** To be called before the first object of the generation is stored. @throws LitestreamError */
  async begin(recalled: EncryptionRecord | undefined): Promise<void> {
    if (this.recipients === undefined || recalled?.generation === this.#generation) return;
    await this.#write({ generation: this.#generation, recipients: this.recipients });
  }

  /** To be called when a segment was stored. What is not kept costs a new generation at the next start, no more. */
  async stored(last: StoredSegment): Promise<void> {
    if (this.recipients === undefined) return;
    try {
      await this.#write({ generation: this.#generation, recipients: this.recipients, last });
    } catch (error) {
      this.#context.logger.warn('cannot remember what was stored', { error: messageOf(error) });
    }
  }

  #write(record: EncryptionRecord): Promise<void> {
    const { source, options } = this.#context;
    return writeReplicaRecord(source.metaPath, 'encryption', options.name, record);
  }
}

/** Equal for the same recipients in any order; undefined where nothing is encrypted. */
function recipientsDigest({ encryption }: StoreConfig): string | undefined {
  if (encryption === undefined) return undefined;
  return createHash('sha256').update(encryption.recipients.toSorted().join('\n')).digest('hex');
}

/** The record; undefined when there is none, or none that makes sense. @throws LitestreamError when it is unreadable */
async function readEncryptionRecord(
  metaPath: string,
  replica: string,
): Promise<EncryptionRecord | undefined> {
  const text = await readReplicaRecord(metaPath, 'encryption', replica);
  return text === undefined ? undefined : parseRecord(text);
}

function parseRecord(text: string): EncryptionRecord | undefined {
  let record: Partial<EncryptionRecord> | null;
  try {
    record = JSON.parse(text) as Partial<EncryptionRecord> | null;
  } catch {
    return undefined; // A file that somebody has edited: a new generation begins, which needs none.
  }
  const { generation, recipients, last } = record ?? {};
  if (typeof generation !== 'string' || typeof recipients !== 'string') return undefined;
  return { generation, recipients, last: isSegment(last) ? last : undefined };
}

function isSegment(last: unknown): last is StoredSegment {
  const { start, end } = (last ?? {}) as Partial<StoredSegment>;
  const numbers = [start, end?.index, end?.offset, end?.checksum[0], end?.checksum[1]];
  return numbers.every(Number.isSafeInteger);
}
