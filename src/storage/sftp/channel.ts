/**
 * One open SFTP channel with its requests as promises. Many may be under way at once. It watches that the server
 * answers: once a request waits too long, or the connection breaks, all of them fail and the channel is of no more use.
 */

import type { FileEntryWithStats, SFTPWrapper, Stats } from 'ssh2';
import { abortedError, throwIfAborted } from '../../base/concurrency.ts';
import { LitestreamError, messageOf } from '../../base/errors.ts';
import type { SftpStoreConfig } from '../store-config.ts';
import { connect } from './connect.ts';
import type { ConnectOptions, ConnectTimeouts, Connected } from './connect.ts';
import { STATUS, statusOf } from './errors.ts';
import type { SftpTarget } from './errors.ts';

export interface SftpTimeouts extends ConnectTimeouts {
  /** Without any answer while requests wait for one. */
  readonly idleMs: number;
  /** The same for a server that brings a file to its disk, which may take a while for a large one. */
  readonly syncMs: number;
}

export const DEFAULT_TIMEOUTS: SftpTimeouts = {
  connectMs: 20_000,
  keepaliveMs: 15_000,
  idleMs: 30_000,
  syncMs: 300_000,
};

/** A request may wait so many times the limit in all while others are answered. */
const PATIENCE = 10;
/** How long close() waits for the server to hang up. */
const CLOSE_MS = 1000;

export interface FileSystemSpace {
  readonly freeBytes: number;
  readonly freeFiles: number;
  readonly readOnly: boolean;
}

type Done<T> = (error?: Error | null, value?: T) => void;

interface RequestOptions<T> {
  readonly signal?: AbortSignal | undefined;
  readonly limitMs?: number;
  /** Gets what a request brought after it was aborted. */
  readonly late?: (value: T) => void;
}

interface Pending {
  readonly sentAt: number;
  readonly limitMs: number;
  readonly fail: (error: Error) => void;
}

/** Handles are the server's. Methods reject with the server's status (statusOf) or a LitestreamError. */
export class SftpChannel {
  readonly #connected: Connected;
  readonly #target: SftpTarget;
  readonly #timeouts: SftpTimeouts;
  readonly #pending = new Set<Pending>();
  readonly #closed: Promise<void>;
  #broken: LitestreamError | undefined;
  #lastAnswerAt = 0;
  #watch: NodeJS.Timeout | undefined;

  private constructor(connected: Connected, target: SftpTarget, timeouts: SftpTimeouts) {
    this.#connected = connected;
    this.#target = target;
    this.#timeouts = timeouts;
    const { client, sftp } = connected;
    const lost = (reason: string): void =>
      this.#break(new LitestreamError('unavailable', `lost the connection to ${target.server} (${reason})`));
    client.removeAllListeners('error').on('error', (error) => lost(messageOf(error)));
    sftp.on('error', (error: Error) => lost(messageOf(error)));
    sftp.on('close', () => lost('the server ended the session'));
    this.#closed = new Promise((resolve) => {
      client.removeAllListeners('close').on('close', () => {
        lost('the server hung up');
        resolve();
      });
    });
  }

  static async open(
    config: SftpStoreConfig,
    target: SftpTarget,
    timeouts: SftpTimeouts,
    options: ConnectOptions,
  ): Promise<SftpChannel> {
    return new SftpChannel(await connect(config, target, timeouts, options), target, timeouts);
  }

  /** Why nothing more can be asked; undefined while it can. */
  get broken(): LitestreamError | undefined {
    return this.#broken;
  }

  /** @param flags - `r`, or `wx` for a new file. The mode is left to the server. */
  open(path: string, flags: 'r' | 'wx', signal?: AbortSignal): Promise<Buffer> {
    return this.#request<Buffer>((sftp, done) => sftp.open(path, flags, done), {
      signal,
      late: (handle) => this.closeQuietly(handle),
    });
  }

  async close(handle: Buffer): Promise<void> {
    await this.#request((sftp, done) => sftp.close(handle, done));
  }

  /** Closes in the background. */
  closeQuietly(handle: Buffer): void {
    // Nothing depends on it, and the server closes what is open when the connection ends.
    this.close(handle).catch(() => undefined);
  }

  /** Up to `length` bytes from `offset`; a server may give fewer, but none at the end of the file only. */
  async read(handle: Buffer, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length);
    const count = await this.#request<number>(
      (sftp, done) => sftp.read(handle, buffer, 0, length, offset, done),
      { signal },
    );
    return buffer.subarray(0, count);
  }

  /** `data` is copied before this returns. */
  async write(handle: Buffer, data: Buffer, offset: number, signal?: AbortSignal): Promise<void> {
    await this.#request((sftp, done) => sftp.write(handle, data, 0, data.length, offset, done), { signal });
  }

  fstat(handle: Buffer, signal?: AbortSignal): Promise<Stats> {
    return this.#request<Stats>((sftp, done) => sftp.fstat(handle, done), { signal });
  }

  stat(path: string, signal?: AbortSignal): Promise<Stats> {
    return this.#request<Stats>((sftp, done) => sftp.stat(path, done), { signal });
  }

  openFolder(path: string, signal?: AbortSignal): Promise<Buffer> {
    return this.#request<Buffer>((sftp, done) => sftp.opendir(path, done), {
      signal,
      late: (handle) => this.closeQuietly(handle),
    });
  }

  /** The next entries, without `.` and `..`; undefined at the end. */
  async readFolder(handle: Buffer, signal?: AbortSignal): Promise<FileEntryWithStats[] | undefined> {
    try {
      return await this.#request<FileEntryWithStats[]>((sftp, done) => sftp.readdir(handle, done), {
        signal,
      });
    } catch (error) {
      if (statusOf(error) === STATUS.endOfFile) return undefined;
      throw error;
    }
  }

  async makeFolder(path: string, signal?: AbortSignal): Promise<void> {
    await this.#request((sftp, done) => sftp.mkdir(path, done), { signal });
  }

  async removeFolder(path: string, signal?: AbortSignal): Promise<void> {
    await this.#request((sftp, done) => sftp.rmdir(path, done), { signal });
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    await this.#request((sftp, done) => sftp.unlink(path, done), { signal });
  }

  /** Fails, with most servers, when `to` is there. */
  async rename(from: string, to: string, signal?: AbortSignal): Promise<void> {
    await this.#request((sftp, done) => sftp.rename(from, to, done), { signal });
  }

  /** Replaces `to`. Rejects with 'unsupported', without asking, where the server does not offer it. */
  async replace(from: string, to: string, signal?: AbortSignal): Promise<void> {
    await this.#request((sftp, done) => sftp.ext_openssh_rename(from, to, done), { signal });
  }

  /** Brings a file or folder to the disk. Rejects with 'unsupported', without asking, where the server does not offer it. */
  async sync(handle: Buffer, signal?: AbortSignal): Promise<void> {
    const limitMs = this.#timeouts.syncMs;
    await this.#request((sftp, done) => sftp.ext_openssh_fsync(handle, done), { signal, limitMs });
  }

  /** Rejects with 'unsupported', without asking, where the server does not offer it. */
  async space(path: string, signal?: AbortSignal): Promise<FileSystemSpace> {
    const send = (sftp: SFTPWrapper, done: Done<Record<string, number>>): void =>
      sftp.ext_openssh_statvfs(path, done);
    const { f_bavail = 0, f_frsize = 0, f_favail = 0, f_flag = 0 } = await this.#request(send, { signal });
    return { freeBytes: f_bavail * f_frsize, freeFiles: f_favail, readOnly: (f_flag & 1) === 1 };
  }

  /** Says goodbye; what is under way fails with 'aborted'. Idempotent. */
  async end(): Promise<void> {
    const { client } = this.#connected;
    this.#fail(new LitestreamError('aborted', `the connection to ${this.#target.server} was closed`));
    client.end();
    const timer = setTimeout(() => client.destroy(), CLOSE_MS);
    await this.#closed;
    clearTimeout(timer);
  }

  #request<T>(send: (sftp: SFTPWrapper, done: Done<T>) => void, options: RequestOptions<T> = {}): Promise<T> {
    const { signal, limitMs = this.#timeouts.idleMs, late } = options;
    return new Promise((resolve, reject) => {
      throwIfAborted(signal);
      if (this.#broken !== undefined) throw this.#broken;
      let settled = false;
      const settle = (): boolean => {
        if (settled) return false;
        settled = true;
        this.#pending.delete(pending);
        signal?.removeEventListener('abort', onAbort);
        return true;
      };
      const pending: Pending = {
        sentAt: Date.now(),
        limitMs,
        fail: (error) => {
          if (settle()) reject(error);
        },
      };
      const onAbort = (): void => pending.fail(abortedError(signal));
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#pending.add(pending);
      this.#keepWatch();
      try {
        send(this.#connected.sftp, (error, value) => {
          this.#lastAnswerAt = Date.now();
          if (error && statusOf(error) === undefined) this.#lost(error);
          if (settle()) {
            if (error) reject(error);
            else resolve(value as T);
          } else if (!error) late?.(value as T);
        });
      } catch (error) {
        // The library throws when the server does not offer an extension.
        pending.fail(new LitestreamError('unsupported', messageOf(error), { cause: error }));
      }
    });
  }

  /** The library fails requests itself when the channel ends. */
  #lost(error: Error): void {
    this.#break(
      new LitestreamError('unavailable', `lost the connection to ${this.#target.server} (${error.message})`),
    );
  }

  #keepWatch(): void {
    if (this.#watch !== undefined) return;
    const everyMs = Math.min(1000, this.#timeouts.idleMs / 4);
    this.#watch = setInterval(() => this.#look(), everyMs);
  }

  #look(): void {
    if (this.#pending.size === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
      return;
    }
    const now = Date.now();
    for (const { sentAt, limitMs } of this.#pending) {
      const silentMs = now - Math.max(sentAt, this.#lastAnswerAt);
      if (silentMs <= limitMs && now - sentAt <= limitMs * PATIENCE) continue;
      const { server } = this.#target;
      const message = `${server} does not answer: a request waited for ${Math.round((now - sentAt) / 1000)} s; check the server and the network`;
      this.#break(new LitestreamError('timeout', message));
      return;
    }
  }

  #break(error: LitestreamError): void {
    this.#fail(error);
    this.#connected.client.destroy();
  }

  #fail(error: LitestreamError): void {
    if (this.#broken !== undefined) return;
    this.#broken = error;
    clearInterval(this.#watch);
    for (const { fail } of [...this.#pending]) fail(error);
  }
}
