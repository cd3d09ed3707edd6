/**
 * How the configured databases are, seen from another process: by the records in their meta directories, the sockets
 * that these name, and, where a socket cannot be asked, by the replicas.
 */

import { join } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { stateDirectories } from '../base/state-directories.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import { findMetaPath } from '../engine/read-only-meta.ts';
import type { DatabaseStatus, ProcessStatus } from '../engine/status.ts';
import { type Unreachable, UnreachableError, callControl } from './client.ts';
import { type ProcessRecord, lifeOf, readRecord } from './record.ts';
import { SOCKET_FILE, fitsSocket } from './socket-path.ts';
import { type OpenStore, type ReplicaReport, reportOnReplicas } from './replica-report.ts';

/** A database of which only this is known. */
export interface SparseStatus {
  readonly path: string;
  readonly metaPath: string;
  /**
   * `crashed`: its process did not end in order. `unstored`: it did, but not everything is stored. `stopped`: nothing
   * replicates it. `hung`: its process does not answer. `unknown`: its process cannot be asked.
   */
  readonly state: 'crashed' | 'unstored' | 'stopped' | 'hung' | 'unknown';
  readonly healthy: boolean;
  readonly reason: string;
  readonly remedy: string | null;
  /** What the replicas tell; empty when they were not asked. */
  readonly replicas: readonly ReplicaReport[];
}

export interface SurveyedDatabase {
  readonly status: DatabaseStatus | SparseStatus;
  /** Where it is from. */
  readonly source: 'socket' | 'replica' | 'record' | 'none';
}

export interface Survey {
  /** Whether there is a process, as far as can be told. */
  readonly running: boolean;
  /** No database has a record: as far as can be told none was ever replicated by a process that did not end in order. */
  readonly blank: boolean;
  /** The one process that answered, if it was one. */
  readonly process: ProcessStatus | undefined;
  /** In the order of the config. */
  readonly databases: readonly SurveyedDatabase[];
}

export interface SurveyOptions {
  readonly databases: readonly DatabaseOptions[];
  readonly openStore: OpenStore;
  /** Bounds the questions to sockets. */
  readonly socketTimeoutMs: number;
  /** Bounds the questions to replicas, after that. */
  readonly replicaTimeoutMs: number;
}

type Presence =
  | { readonly kind: 'never' }
  | { readonly kind: 'asked'; readonly process: ProcessStatus }
  | { readonly kind: 'ended'; readonly record: ProcessRecord }
  | { readonly kind: 'unreachable'; readonly state: 'hung' | 'unknown'; readonly reason: string };

/** Never rejects, and ends in time whatever hangs. */
export async function survey(options: SurveyOptions): Promise<Survey> {
  const { databases, socketTimeoutMs } = options;
  const signal = AbortSignal.timeout(socketTimeoutMs);
  const asked = new Map<string, Promise<ProcessStatus>>();
  const ask = (path: string): Promise<ProcessStatus> => {
    const known = asked.get(path);
    if (known) return known;
    const call = callControl(path, { method: 'GET', path: '/status', signal }) as Promise<ProcessStatus>;
    asked.set(path, call);
    return call;
  };
  const presences = await Promise.all(
    databases.map((database) => orSilence(signal, presenceOf(database, ask))),
  );
  const processes = presences.flatMap((presence) => (presence.kind === 'asked' ? [presence.process] : []));
  const surveyed = databases.map((database, i) =>
    judge(database, presences[i] ?? { kind: 'never' }, processes, options),
  );
  return {
    running: presences.some(({ kind }) => kind === 'asked' || kind === 'unreachable'),
    blank: presences.every(({ kind }) => kind === 'never'),
    process: new Set(processes.map(({ pid }) => pid)).size === 1 ? processes[0] : undefined,
    databases: await Promise.all(surveyed),
  };
}

/** The meta directory as it was used last, also by a process with another environment. */
export function metaPathOf(database: DatabaseOptions): string {
  return findMetaPath(database, stateDirectories(process.env));
}

async function presenceOf(
  database: DatabaseOptions,
  ask: (path: string) => Promise<ProcessStatus>,
): Promise<Presence> {
  let record: ProcessRecord | undefined;
  try {
    record = await readRecord(metaPathOf(database));
  } catch (error) {
    return unreachable(`it may run, not permitted: ${messageOf(error)}`);
  }
  if (!record) return withoutRecord(join(metaPathOf(database), SOCKET_FILE), ask);
  const life = record.unstored === null ? lifeOf(record) : 'dead';
  if (life === 'dead') return { kind: 'ended', record };
  if (record.socket === null) return unreachable('it runs without a control socket');
  try {
    return { kind: 'asked', process: await ask(record.socket) };
  } catch (error) {
    const why = error instanceof UnreachableError ? error.why : 'silent';
    if (why === 'dead' && life === 'unknown') return { kind: 'ended', record };
    return unreachable(describe(why, messageOf(error)), why === 'silent' ? 'hung' : 'unknown');
  }
}

/** A full disk may have had no room for the record; the usual socket tells. */
async function withoutRecord(
  socket: string,
  ask: (path: string) => Promise<ProcessStatus>,
): Promise<Presence> {
  if (!fitsSocket(socket)) return { kind: 'never' };
  try {
    return { kind: 'asked', process: await ask(socket) };
  } catch (error) {
    const why = error instanceof UnreachableError ? error.why : 'silent';
    if (why === 'absent' || why === 'dead') return { kind: 'never' };
    return unreachable(describe(why, messageOf(error)), why === 'silent' ? 'hung' : 'unknown');
  }
}

function unreachable(reason: string, state: 'hung' | 'unknown' = 'unknown'): Presence {
  return { kind: 'unreachable', state, reason };
}

function describe(why: Unreachable, message: string): string {
  switch (why) {
    case 'forbidden':
      return `running, not permitted: ${message}`;
    case 'absent':
      return `it runs where its socket is not to be seen from here: ${message}`;
    case 'dead':
    case 'silent':
      return `it runs but does not answer: ${message}`;
  }
}

/** A presence that cannot be told in time: files of a dead mount hang in the system. */
async function orSilence(signal: AbortSignal, presence: Promise<Presence>): Promise<Presence> {
  const late = new Promise<Presence>((resolve) => {
    const give = (): void => resolve(unreachable('its meta directory cannot be read in time', 'hung'));
    // A moment later: who asks the socket sees the same signal and knows more.
    signal.addEventListener('abort', () => setTimeout(give, 50), { once: true });
  });
  return Promise.race([presence, late]);
}

async function judge(
  database: DatabaseOptions,
  presence: Presence,
  processes: readonly ProcessStatus[],
  { openStore, replicaTimeoutMs }: SurveyOptions,
): Promise<SurveyedDatabase> {
  const { path } = database;
  const metaPath = metaPathOf(database);
  const status = processes
    .flatMap((process) => process.databases)
    .find((candidate) => candidate.path === path);
  if (status) return { status, source: 'socket' };
  const sparse = (
    source: SurveyedDatabase['source'],
    rest: Omit<SparseStatus, 'path' | 'metaPath' | 'replicas'> & Partial<SparseStatus>,
  ): SurveyedDatabase => ({ status: { replicas: [], ...rest, path, metaPath }, source });
  switch (presence.kind) {
    case 'ended':
      return sparse('record', { healthy: false, ...describeEnd(presence.record) });
    case 'never':
    case 'asked': {
      const reason =
        processes.length > 0 ? 'the running replicate does not replicate it' : 'no replicate is running';
      const remedy = processes.length > 0 ? 'restart replicate: it reads its config once' : 'start replicate';
      return sparse('none', { state: 'stopped', healthy: false, reason, remedy });
    }
    case 'unreachable': {
      const { state, reason } = presence;
      // What does not answer is ill, whatever its replica says.
      if (state === 'hung') {
        return sparse('none', { state, healthy: false, reason, remedy: 'look at its log; restart it' });
      }
      const replicas = await reportOnReplicas(database, openStore, AbortSignal.timeout(replicaTimeoutMs));
      const ill = replicas.find(({ healthy }) => !healthy);
      const said = ill ? `replica ${ill.name}: ${ill.reason ?? 'not known'}` : 'its replicas are up to date';
      const remedy = 'ask as the user of replicate, where its meta directory is';
      const healthy = ill === undefined && replicas.length > 0;
      return sparse('replica', { state, healthy, reason: `${reason}; ${said}`, remedy, replicas });
    }
  }
}

function describeEnd(record: ProcessRecord): Pick<SparseStatus, 'state' | 'reason' | 'remedy'> {
  const who = `replicate (pid ${record.pid}, started ${record.startedAt})`;
  const remedy = 'start replicate: it continues where it stopped';
  if (record.unstored !== null) {
    return {
      state: 'unstored',
      reason: `${who} has ended, but not all is stored: ${record.unstored}`,
      remedy,
    };
  }
  return { state: 'crashed', reason: `${who} did not end in order, and nothing replicates since`, remedy };
}
