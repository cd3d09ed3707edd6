/** Bodies in blocks, many of them under way at once, so that a distant server is not waited for block by block. */

import { LitestreamError } from '../../base/errors.ts';
import type { SftpChannel } from './channel.ts';
import { Window } from './window.ts';

/** Bytes a request: what fits into one packet of SSH with its headers, and so what every server takes. */
const BLOCK_BYTES = 31 * 1024;
/** Requests of one body under way at once: 2 MB, as much as the usual window of an SSH channel. */
const BLOCKS_AHEAD = 64;

/** Writes a body to a new file, from its beginning. */
export class FileWriter {
  readonly #channel: SftpChannel;
  readonly #handle: Buffer;
  readonly #signal: AbortSignal | undefined;
  readonly #window = new Window(BLOCKS_AHEAD);

  constructor(channel: SftpChannel, handle: Buffer, signal: AbortSignal | undefined) {
    this.#channel = channel;
    this.#handle = handle;
    this.#signal = signal;
  }

  /** Sends everything, some of it not answered yet, and gives its size in bytes. Passes on what the body throws. */
  async send(body: Uint8Array | AsyncIterable<Uint8Array>): Promise<number> {
    let offset = 0;
    for await (const block of body instanceof Uint8Array ? slices(body) : gathered(body)) {
      const at = offset;
      await this.#window.send(() => this.#channel.write(this.#handle, block, at, this.#signal));
      offset += block.length;
    }
    return offset;
  }

  /** Resolves when everything that was sent is written. */
  answered(): Promise<void> {
    return this.#window.drain();
  }
}

function* slices(body: Uint8Array): Generator<Buffer, void, undefined> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  for (let start = 0; start < bytes.length; start += BLOCK_BYTES) {
    yield bytes.subarray(start, start + BLOCK_BYTES);
  }
}

/** Full blocks and a last one. A block is valid until the next is asked for. */
async function* gathered(body: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, undefined> {
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  let length = 0;
  for await (const chunk of body) {
    let rest = chunk;
    while (rest.length > 0) {
      const taken = rest.subarray(0, BLOCK_BYTES - length);
      block.set(taken, length);
      length += taken.length;
      rest = rest.subarray(taken.length);
      if (length === BLOCK_BYTES) {
        yield block;
        length = 0;
      }
    }
  }
  if (length > 0) yield block.subarray(0, length);
}

interface Block {
  readonly length: number;
  readonly data: Promise<Buffer>;
}

/** Reads an open file from `start` on, and closes it in the end. */
export class FileReader {
  readonly #channel: SftpChannel;
  readonly #handle: Buffer;
  readonly #signal: AbortSignal | undefined;
  readonly #blocks: Block[] = [];
  readonly #start: number;
  #next: number;

  constructor(channel: SftpChannel, handle: Buffer, start: number, signal: AbortSignal | undefined) {
    this.#channel = channel;
    this.#handle = handle;
    this.#start = start;
    this.#next = start;
    this.#signal = signal;
  }

  /** Asks for blocks up to `end`, before it is known that the file is so long; at most `blocks` under way. */
  ask(end: number, blocks: number = BLOCKS_AHEAD): void {
    while (this.#next < end && this.#blocks.length < blocks) {
      const length = Math.min(BLOCK_BYTES, end - this.#next);
      const data = this.#channel.read(this.#handle, this.#next, length, this.#signal);
      // Its failure is thrown where the block is wanted.
      data.catch(() => undefined);
      this.#blocks.push({ length, data });
      this.#next += length;
    }
  }

  /** The bytes up to `end`, which the file is known to reach. Rejects with 'unavailable' when it ends before. */
  async *read(end: number): AsyncGenerator<Buffer, void, undefined> {
    try {
      for (let offset = this.#start; offset < end;) {
        this.ask(end);
        const block = this.#blocks.shift();
        if (block === undefined) return;
        let missing = Math.min(block.length, end - offset);
        for (let data = await block.data; ;) {
          if (data.length === 0) {
            throw new LitestreamError('unavailable', `the file ended ${end - offset} bytes early`);
          }
          const piece = data.subarray(0, missing);
          offset += piece.length;
          missing -= piece.length;
          yield piece;
          if (missing === 0) break;
          data = await this.#channel.read(this.#handle, offset, missing, this.#signal);
        }
      }
    } finally {
      this.close();
    }
  }

  /** For a reader that is not read. */
  close(): void {
    this.#channel.closeQuietly(this.#handle);
  }
}
