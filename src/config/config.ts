/** What a config file resolves to: the contract between config/ and the commands. */

import type { LogLevel } from '../base/logger.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import type { Diagnostic } from './diagnostic.ts';

export interface LoggingOptions {
  readonly level: LogLevel;
  readonly type: 'text' | 'json';
  /** To stderr instead of stdout. */
  readonly stderr: boolean;
}

/** The Unix socket on which `replicate` answers questions. */
export interface SocketOptions {
  readonly enabled: boolean;
  /** Absolute; undefined: in the meta directory of the first database. */
  readonly path: string | undefined;
  /** Permission bits. */
  readonly permissions: number;
}

/** What is told from time to time that everything is stored. */
export interface HeartbeatOptions {
  /** As good as a password: never shown. */
  readonly url: string;
  readonly intervalMs: number;
}

export interface Config {
  /** Absolute path of the file. */
  readonly path: string;
  /** Address that dashboard, metrics and health are served on; empty: none. */
  readonly addr: string;
  /** Command to run beside replication; empty: none. */
  readonly exec: string;
  readonly logging: LoggingOptions;
  readonly socket: SocketOptions;
  readonly heartbeat: HeartbeatOptions | undefined;
  readonly shutdownTimeoutMs: number;
  /** To all remote replicas together. */
  readonly maxConcurrentRequests: number;
  readonly databases: readonly DatabaseOptions[];
  /** What the file holds that probably is not meant so; in the order of the file. */
  readonly warnings: readonly Diagnostic[];
  /** `message` with the place where one of `databases` or of their replicas is configured; absent without a file. */
  readonly locate?: Locate | undefined;
}

export type Locate = (option: DatabaseOptions | ReplicaOptions, message: string) => Diagnostic | undefined;
