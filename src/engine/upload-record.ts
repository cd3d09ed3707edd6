/**
 * Which segment was sent last, in the meta directory: a request of a process that was killed may still take effect when
 * the next process has stored more under the same name, and would cut that off again.
 */

import { writeFile } from 'node:fs/promises';
import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { readReplicaRecord, recordPath } from './replica-record.ts';
import type { SegmentRange } from './replica-segment.ts';

export class UploadRecord {
  readonly #metaPath: string;
  readonly #replica: string;
  readonly #logger: Logger;
  #last: Promise<SegmentRange | undefined> | undefined;

  constructor(metaPath: string, replica: string, logger: Logger) {
    this.#metaPath = metaPath;
    this.#replica = replica;
    this.#logger = logger;
  }

  /** `next`, or as much of it as was sent when this began, which may have been by another process. Never rejects. */
  async asBefore(next: SegmentRange): Promise<SegmentRange> {
    this.#last ??= this.#read();
    const { generation, index, start, end } = (await this.#last) ?? next;
    const same = generation === next.generation && index === next.index && start === next.start;
    return same && end < next.end ? { ...next, end } : next;
  }

  /**
   * To be called before `range` is sent. It must outlive the process, not the machine: until that runs again, no request
   * is left. Never rejects: replication without it is better than none.
   */
  async sending(range: SegmentRange): Promise<void> {
    try {
      await writeFile(recordPath(this.#metaPath, 'upload', this.#replica), `${JSON.stringify(range)}\n`);
    } catch (error) {
      this.#logger.warn('cannot remember what is being stored', { error: messageOf(error) });
    }
  }

  async #read(): Promise<SegmentRange | undefined> {
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

function parse(text: string): SegmentRange | undefined {
  const { generation, index, start, end } = JSON.parse(text) as Partial<Record<keyof SegmentRange, unknown>>;
  const range = { generation, index, start, end };
  const numbers = [index, start, end].every(Number.isSafeInteger);
  return typeof generation === 'string' && numbers ? (range as SegmentRange) : undefined;
}
