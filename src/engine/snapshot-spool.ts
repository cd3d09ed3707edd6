/**
 * A file that stands between a database and a slow store: written as fast as the disk takes it, so that the database is
 * let go of soon, and read at the same time, so that the upload need not wait.
 */

import { close, read, write } from 'node:fs';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { type LitestreamError, assert, wrapError } from '../base/errors.ts';
import { openOwnFile } from '../base/own-file.ts';
import { Bell } from './replica-wait.ts';

const READ_SIZE = 1 << 20;

const readAt = promisify(read);
const writeAt = promisify(write);
const closeFd = promisify(close);

export class SnapshotSpool {
  readonly #path: string;
  readonly #grown = new Bell();
  readonly #closing = new AbortController();
  /** One for writer and reader: by its path the reader might get another file. */
  #fd: number | undefined;
  #sizeBytes = 0;
  #state: 'writing' | 'written' | LitestreamError = 'writing';
  /** Resolves when all is in the file; rejects with what kept it from that, such as 'disk-full'. */
  readonly written: Promise<void>;

  /** Begins to write `content` to a new file, over what a process that died may have left there. */
  constructor(path: string, content: AsyncIterable<Uint8Array>) {
    this.#path = path;
    this.written = this.#write(content);
    // The reader hears of it, too.
    this.written.catch(() => undefined);
  }

  async #write(content: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      const fd = openOwnFile(this.#path, { fresh: true });
      this.#fd = fd;
      for await (const chunk of content) {
        for (let offset = 0; offset < chunk.byteLength;) {
          const length = chunk.byteLength - offset;
          const { bytesWritten } = await writeAt(fd, chunk, offset, length, this.#sizeBytes);
          offset += bytesWritten;
          this.#sizeBytes += bytesWritten;
        }
        this.#grown.ring();
        if (this.#closing.signal.aborted) return;
      }
      this.#state = 'written';
    } catch (error) {
      this.#state = wrapError(error, `spool snapshot to ${this.#path}`);
      throw this.#state;
    } finally {
      this.#grown.ring();
    }
  }

  /**
   * The content from its beginning, as it is written. A chunk is only valid until the next is asked for. Rejects with what keeps it from being written, with 'aborted'
   * when the spool is closed.
   */
  async *read(): AsyncGenerator<Uint8Array> {
    let offset = 0;
    // Used again and again: fresh memory for each chunk costs more than reading it.
    const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
    for (;;) {
      while (this.#fd !== undefined && offset < this.#sizeBytes) {
        const wanted = Math.min(READ_SIZE, this.#sizeBytes - offset);
        const { bytesRead } = await readAt(this.#fd, buffer, 0, wanted, offset);
        assert(bytesRead > 0, `${this.#path} is as long as what was written to it`);
        offset += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
      if (this.#state === 'written') return;
      if (this.#state !== 'writing') throw this.#state;
      await this.#grown.wait(this.#closing.signal);
    }
  }

  /** Ends the writing and removes the file. Whoever reads must have ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled([this.written]);
    if (this.#fd !== undefined) await closeFd(this.#fd);
    this.#fd = undefined;
    await rm(this.#path, { force: true });
  }
}
