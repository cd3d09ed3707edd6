/**
 * Which segment was sent last, and what was stored before it, in the meta directory. A request of a process that was
 * killed may still take effect when the next process has stored more under the same name, and would cut that off again;
 * and a list that shows less than was stored is not to be believed.
 */

import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { writeOwnFile } from '../base/own-file.ts';
import { readReplicaRecord, recordPath } from './replica-record.ts';
import type { SegmentRange } from './replica-segment.ts';
import type { StoredSummary } from './stored-objects.ts';

/** A segment that was sent: it is stored, or may be so by now. */
export interface SentSegment extends SegmentRange {
  /** What was stored before it; undefined: nothing, or that was not kept. */
  readonly before: StoredSummary | undefined;
}

export class UploadRecord {
  readonly #metaPath: string;
  readonly #replica: string;
  readonly #logger: Logger;
  #last: Promise<SentSegment | undefined> | undefined;

  constructor(metaPath: string, replica: string, logger: Logger) {
    this.#metaPath = metaPath;
    this.#replica = replica;
    this.#logger = logger;
  }

  /** `next`, or as much of it as was sent when this began, which may have been by another process. Never rejects. */
  async asBefore(next: SegmentRange): Promise<SegmentRange> {
    const { generation, index, start, end } = (await this.recall()) ?? next;
    const same = generation === next.generation && index === next.index && start === next.start;
    return same && end < next.end ? { ...next, end } : next;
  }

  /** What another process has sent last, of any generation. Never rejects. */
  recall(): Promise<SentSegment | undefined> {
    this.#last ??= this.#read();
    return this.#last;
  }

  /**
   * To be called before `range` is sent. It must outlive the process, not the machine: until that runs again, no request
   * is left. Never rejects: replication without it is better than none.
   */
  sending(range: SegmentRange, before: StoredSummary | undefined): Promise<void> {
    const record: SentSegment = { ...range, before };
    try {
      writeOwnFile(recordPath(this.#metaPath, 'upload', this.#replica), `${JSON.stringify(record)}\n`);
    } catch (error) {
      this.#logger.warn('cannot remember what is being stored', { error: messageOf(error) });
    }
    return Promise.resolve();
  }

  async #read(): Promise<SentSegment | undefined> {
    try {
      const text = await readReplicaRecord(this.#metaPath, 'upload', this.#replica);
      // Nothing is in it when the process ended while it was written: then nothing was sent.
      return text === undefined || text === '' ? undefined : parse(text);
    } catch (error) {
      this.#logger.warn('cannot tell what was being stored', { error: messageOf(error) });
      return undefined;
    }
  }
}

function parse(text: string): SentSegment | undefined {
  const { generation, index, start, end, before } = JSON.parse(text) as Partial<
    Record<keyof SentSegment, unknown>
  >;
  const sent = { generation, index, start, end, before: isSummary(before) ? before : undefined };
  const numbers = [index, start, end].every(Number.isSafeInteger);
  return typeof generation === 'string' && numbers ? (sent as SentSegment) : undefined;
}

function isSummary(before: unknown): before is StoredSummary {
  const { last, since, count } = (before ?? {}) as Partial<StoredSummary>;
  return [last?.index, last?.start, since ?? 0, count].every(Number.isSafeInteger);
}
