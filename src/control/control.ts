/**
 * The control socket and the records of one `replicate`, from the first lock to the end. None of this may get in the way of
 * replication: what fails is logged.
 */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { SocketOptions } from '../config/index.ts';
import type { ReplicatedDatabase, UnstoredReplica } from '../engine/replicator.ts';
import { describeThisProcess, hasRecord, removeRecord, writeRecord } from './record.ts';
import type { Route } from './router.ts';
import { type ControlServer, startControlServer } from './server.ts';
import { SOCKET_FILE, fitsSocket, runtimeSocketPath } from './socket-path.ts';

/** A full disk may have room again. */
const RETRY_MS = 5000;
/** How often it is looked whether socket and records are still there. */
const CHECK_MS = 1000;

export interface ControlOptions {
  /** Where the databases are, in the order of the config: asked when replication has begun. */
  readonly databases: () => readonly ReplicatedDatabase[];
  readonly socket: SocketOptions;
  readonly routes: readonly Route[];
  readonly logger: Logger;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Of this process, in ISO 8601. */
  readonly startedAt: string;
}

export class Control {
  readonly #options: ControlOptions;
  /** Databases whose record names this process. */
  readonly #claimed = new Map<string, ReplicatedDatabase>();
  readonly #warned = new Set<string>();
  #closed = false;
  /** Whose sockets were deleted: somebody may still be talking to them. */
  readonly #lost: ControlServer[] = [];
  #checks: NodeJS.Timeout | undefined;
  #server: Promise<ControlServer | undefined> | undefined;
  /** Why there is no socket, as it was said last, and when to try again. */
  #failure: string | undefined;
  #retryAtMs = Infinity;

  constructor(options: ControlOptions) {
    this.#options = options;
  }

  /** Says that this process replicates a database, whose lock it has. Never rejects. */
  async claim(database: ReplicatedDatabase): Promise<void> {
    if (this.#closed) return;
    const server = await this.#open();
    this.#claimed.set(database.path, database);
    const record = describeThisProcess(this.#options.startedAt, server?.path ?? null);
    const written = await this.#try('cannot tell that this process runs', database, () =>
      writeRecord(database.metaPath, record),
    );
    if (!written) setTimeout(() => void this.claim(database), RETRY_MS).unref();
    this.#checks ??= setInterval(() => void this.#check(), CHECK_MS).unref();
  }

  /** Makes anew what was deleted. Never rejects. */
  async #check(): Promise<void> {
    const server = await this.#server;
    if (this.#closed) return;
    if (server ? !server.isInPlace : performance.now() >= this.#retryAtMs) await this.#reopen(server);
    for (const database of this.#claimed.values()) {
      // The folder of a database is not ours to make: its volume may be gone.
      const claimable = !hasRecord(database.metaPath) && existsSync(dirname(database.metaPath));
      if (claimable) await this.claim(database);
    }
  }

  /** @param lost the socket that is gone; undefined: there was none */
  async #reopen(lost: ControlServer | undefined): Promise<void> {
    if (lost) {
      this.#options.logger.warn('control socket was deleted, and is made anew', { path: lost.path });
      this.#lost.push(lost);
    }
    this.#server = this.#listen();
    const server = await this.#server;
    // The records name it.
    if (server && server.path !== lost?.path)
      for (const database of this.#claimed.values()) await this.claim(database);
  }

  /** To be called when all databases were tried once: those that are not there yet are claimed too. Never rejects. */
  async settle(): Promise<void> {
    await this.#open();
    for (const database of this.#options.databases()) {
      // The folder of a database is not ours to make: it may be a mount that is late.
      const claimable = !this.#claimed.has(database.path) && existsSync(dirname(database.metaPath));
      if (claimable) await this.claim(database);
    }
  }

  /** Ends in order. @param unstored what is not stored stays in the record, as a warning. Never rejects. */
  async close(unstored: readonly UnstoredReplica[]): Promise<void> {
    this.#closed = true;
    clearInterval(this.#checks);
    const server = await this.#server;
    for (const open of [...this.#lost, server]) await open?.close();
    for (const database of this.#claimed.values()) {
      const reasons = unstored.filter((item) => item.database === database.path);
      const text = reasons.map(({ replica, reason }) => `replica ${replica}: ${reason}`).join('; ');
      await this.#try('cannot tell that this process has ended', database, () =>
        text === ''
          ? removeRecord(database.metaPath)
          : writeRecord(database.metaPath, {
              ...describeThisProcess(this.#options.startedAt, null),
              unstored: text,
            }),
      );
    }
  }

  /** Whether it worked; what fails is logged, once for each database. */
  async #try(message: string, { path }: ReplicatedDatabase, action: () => Promise<void>): Promise<boolean> {
    try {
      await action();
      this.#warned.delete(path);
      return true;
    } catch (error) {
      if (!this.#warned.has(path)) this.#options.logger.warn(message, { db: path, error: messageOf(error) });
      this.#warned.add(path);
      return false;
    }
  }

  #open(): Promise<ControlServer | undefined> {
    this.#server ??= this.#listen();
    return this.#server;
  }

  async #listen(): Promise<ControlServer | undefined> {
    const { socket, logger, env, databases, routes } = this.#options;
    if (!socket.enabled) return undefined;
    const start = (path: string): Promise<ControlServer> =>
      startControlServer({ path, permissions: socket.permissions, routes, logger });
    const all = databases();
    const home = all.find(({ metaPath }) => existsSync(dirname(metaPath))) ?? all[0];
    const wanted = socket.path ?? (home ? join(home.metaPath, SOCKET_FILE) : undefined);
    if (wanted === undefined) return undefined;
    try {
      const besides = socket.path !== undefined || existsSync(dirname(home?.metaPath ?? ''));
      if (fitsSocket(wanted) && besides) {
        try {
          return await start(wanted);
        } catch (error) {
          // Some file systems have no sockets. One that is in use is another matter.
          if (hasCode(error, 'busy', 'exists') || socket.path !== undefined) throw error;
          logger.debug('control socket is elsewhere', { error: messageOf(error) });
        }
      }
      return await start(runtimeSocketPath(wanted, env));
    } catch (error) {
      const message = messageOf(error);
      if (message !== this.#failure)
        logger.error('no control socket: status and sync cannot ask this process', { error: message });
      this.#failure = message;
      this.#retryAtMs = performance.now() + RETRY_MS;
      return undefined;
    }
  }
}
