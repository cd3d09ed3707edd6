/**
 * What is told of a running replication: one shape for the control socket, `status -json` and everything else that shows
 * it, specified in docs/status.md. Derived from what the engine counts at the moment of the question; pure.
 */

import { formatDuration } from '../base/duration.ts';
import type { Position } from '../format/position.ts';
import type { RequestCount } from '../storage/counting-store.ts';
import type { DatabaseProblemFacts } from './database-problem.ts';
import { describeFuture } from './future-commits.ts';
import type { ReplicaLag } from './replica-generation.ts';
import { databaseProblemText, failureRemedy, problemRemedy } from './status-words.ts';
import type { DatabaseStats, FailureStats, ReplicaStats } from './stats.ts';
import type { Verification } from './verification-record.ts';
import type { WalPin } from './wal-pin.ts';

/** In one word how a database or a replica is, from the worst to the best. */
export const STATES = [
  /** It stands still and nothing explains it: its pipeline is being restarted. */
  'stuck',
  /** Something fails. It is tried again. */
  'failing',
  /** The WAL cannot be copied or started over: a reader or writer is in the way. */
  'blocked',
  /** Commits have been waiting for longer than they should. */
  'lagging',
  /** What is committed is being stored before the process ends. */
  'stopping',
  /** It is being opened, or the first snapshot is under way. */
  'starting',
  /** There is no database yet. */
  'waiting',
  /** Everything is stored, or will be in a moment. */
  'ok',
] as const;
export type State = (typeof STATES)[number];

/** Times are ISO 8601, ages and durations milliseconds, sizes bytes; null: not known, or there is none. */
export interface ReplicaStatus {
  readonly name: string;
  readonly type: string;
  readonly location: string | null;
  readonly state: State;
  readonly healthy: boolean;
  readonly reason: string | null;
  readonly remedy: string | null;
  /** Since when the reason holds. */
  readonly since: string | null;
  /** End of what is stored. */
  readonly position: Position | null;
  /** Age of the oldest commit that is not stored; 0 when all are. */
  readonly lagMs: number | null;
  /** WAL that is committed and not stored. */
  readonly backlogBytes: number | null;
  readonly lastUploadAt: string | null;
  /** The newest failure, also when it is mended. */
  readonly lastError: { readonly message: string; readonly at: string; readonly ageMs: number } | null;
  readonly requests: readonly RequestCount[];
  readonly lastSnapshot: {
    readonly generation: string;
    readonly index: number;
    readonly at: string;
    readonly sizeBytes: number;
  } | null;
  readonly restorable: { readonly from: string; readonly to: string } | null;
  readonly lastVerification: Verification | null;
  /** When the store was last asked whether it holds what was stored. */
  readonly lastLookAt: string | null;
  /** An object that another process wrote, and when that was found: this one has a generation of its own since. */
  readonly otherWriter: { readonly object: string; readonly at: string } | null;
  readonly retentionRefused: boolean;
}

export type Mode = 'read-write' | 'read-only';

export interface DatabaseStatus {
  readonly path: string;
  readonly metaPath: string;
  /** `read-only`: the database or its folder cannot be written, so only its application checkpoints. */
  readonly mode: Mode | null;
  readonly state: State;
  readonly healthy: boolean;
  readonly reason: string | null;
  readonly remedy: string | null;
  /** Since when the reason holds. */
  readonly since: string | null;
  readonly sizeBytes: number;
  readonly walSizeBytes: number;
  readonly walPin: WalPin | null;
  /** End of what is copied from the WAL. */
  readonly position: Position | null;
  readonly lastRotationAt: string | null;
  /** For how long writers were kept waiting by us, in all. */
  readonly writerBlockedMs: number;
  readonly replicas: readonly ReplicaStatus[];
}

export interface ProcessStatus {
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly healthy: boolean;
  readonly reason: string | null;
  readonly databases: readonly DatabaseStatus[];
}

/** Something that has lasted since a time in epoch milliseconds. */
export interface Lasting {
  readonly reason: string;
  readonly sinceMs: number;
}

export interface ReplicaFacts {
  readonly stats: ReplicaStats;
  readonly location: string | undefined;
  readonly syncIntervalMs: number;
  /** As long as nothing can be restored: since when, and when something moved last. Epoch milliseconds. */
  readonly unready?: { readonly sinceMs: number; readonly movedAtMs: number } | undefined;
  /** Undefined before the database was followed for the first time. */
  readonly replication:
    | {
        readonly learnt: boolean;
        readonly restorable: boolean;
        readonly position: Position | undefined;
        readonly lag: ReplicaLag | undefined;
      }
    | undefined;
}

export interface DatabaseFacts {
  readonly stats: DatabaseStats;
  readonly metaPath: string;
  /** Undefined while it is not open. */
  readonly mode?: Mode | undefined;
  readonly monitorIntervalMs: number;
  readonly position: Position | undefined;
  readonly followed: boolean;
  /** Since when it is not followed, in epoch milliseconds. */
  readonly unfollowedSinceMs?: number | undefined;
  readonly stopping: boolean;
  readonly problem: DatabaseProblemFacts | undefined;
  /** Why the WAL is not copied at present although nothing failed. */
  readonly delay: Lasting | undefined;
  /** Why a WAL that is longer than it should be cannot be started over. */
  readonly obstacle: Lasting | undefined;
  readonly pin: WalPin | undefined;
  /** What the watchdog has found. */
  readonly stuck: Lasting | undefined;
  readonly replicas: readonly ReplicaFacts[];
}

/** So many intervals pass before a delay is more than that: it shall be told within three. */
const PATIENCE_INTERVALS = 2.5;
/** Requests take their time also where intervals are short. */
const MIN_PATIENCE_MS = 2500;
/** A backlog that shrinks is no reason to worry for this long. */
const CATCH_UP_MS = 60_000;

/**
 * For so long may a start be still and count as one: what moves nothing for as long as any request may take to fail, or a
 * database of many gigabytes to be opened, does not get on.
 */
const STILL_START_MS = 10 * 60_000;
/** Whatever moves: a first snapshot that has not come in a day, a terabyte at 100 Mbit/s, is no reason to feel safe. */
const LONG_START_MS = 24 * 3600_000;
/** A database that is to come is made by its application at its start. After an hour the path is wrong, or nobody starts. */
const WAITING_MS = 3600_000;

/** How long something may last that intervals of `intervalMs` should have ended, in ms. */
export function patienceMs(intervalMs: number): number {
  return Math.max(MIN_PATIENCE_MS, PATIENCE_INTERVALS * intervalMs);
}

interface Verdict {
  readonly state: State;
  readonly healthy: boolean;
  readonly reason?: string | undefined;
  readonly remedy?: string | undefined;
  readonly sinceMs?: number | undefined;
}

export function processStatus(
  process: Pick<ProcessStatus, 'version' | 'pid' | 'startedAt'>,
  databases: readonly DatabaseStatus[],
): ProcessStatus {
  const ill = databases.find(({ healthy }) => !healthy);
  return {
    version: process.version,
    pid: process.pid,
    startedAt: process.startedAt,
    healthy: ill === undefined,
    reason: ill === undefined ? null : `${ill.path}: ${ill.reason ?? ill.state}`,
    databases,
  };
}

/** @param nowMs epoch milliseconds */
export function databaseStatus(facts: DatabaseFacts, nowMs: number): DatabaseStatus {
  const { stats, metaPath, position, pin } = facts;
  const replicas = facts.replicas.map((replica) => replicaStatus(replica, facts, nowMs));
  const own = ownVerdict(facts, nowMs);
  // A database that nobody uses may be in its replicas all the same: while they fail there is more to say than to wait.
  const isStored = own?.state !== 'waiting' || replicas.every(({ healthy }) => healthy);
  const verdict = own && isStored ? own : verdictOfReplicas(replicas);
  return {
    path: stats.path,
    metaPath,
    mode: facts.mode ?? null,
    ...shown(verdict),
    sizeBytes: stats.sizeBytes,
    walSizeBytes: stats.walSizeBytes,
    walPin: pin ?? null,
    position: position ?? null,
    lastRotationAt: iso(stats.lastRotationAtMs),
    writerBlockedMs: Math.round(stats.writerBlockedSeconds * 1000),
    replicas,
  };
}

function shown({
  state,
  healthy,
  reason,
  remedy,
  sinceMs,
}: Verdict): Pick<DatabaseStatus, 'state' | 'healthy' | 'reason' | 'remedy' | 'since'> {
  return { state, healthy, reason: reason ?? null, remedy: remedy ?? null, since: iso(sinceMs) };
}

/** What the database itself has to say; undefined: as its replicas are. */
function ownVerdict(facts: DatabaseFacts, nowMs: number): Verdict | undefined {
  const { problem, followed, stuck, delay, obstacle } = facts;
  if (stuck)
    return { state: 'stuck', healthy: false, ...stuck, remedy: 'its pipeline is restarted by itself' };
  if (problem) {
    const missing = problem.kind === 'missing';
    const waiting = missing && (isStored(facts) || nowMs - problem.sinceMs < WAITING_MS);
    return {
      state: waiting ? 'waiting' : 'failing',
      healthy: waiting,
      reason: databaseProblemText(problem),
      remedy:
        missing && !waiting
          ? 'check the path: nothing is stored; take it out of the config if there is to be no database'
          : problemRemedy(problem, facts.metaPath),
      sinceMs: problem.sinceMs,
    };
  }
  if (facts.stopping) return { state: 'stopping', healthy: true, reason: 'replication is being ended' };
  if (!followed) {
    const sinceMs = facts.unfollowedSinceMs;
    if (nowMs - (sinceMs ?? nowMs) < STILL_START_MS)
      return { state: 'starting', healthy: true, reason: 'the database is being opened' };
    const remedy = 'see the log; restart the process if it does not get on';
    return {
      state: 'failing',
      healthy: false,
      reason: 'the database is still being opened',
      remedy,
      sinceMs,
    };
  }
  const impatience = patienceMs(facts.monitorIntervalMs);
  if (delay && nowMs - delay.sinceMs >= impatience) {
    return blocked(delay, `the wal cannot be copied: ${delay.reason}`, 'look for a process that holds it');
  }
  if (obstacle && nowMs - obstacle.sinceMs >= impatience) {
    const remedy = 'end the transaction that is in the way, or restart the process that holds it';
    return blocked(obstacle, `the wal grows and cannot be started over: ${obstacle.reason}`, remedy);
  }
  if (facts.replicas.length > 0) return undefined;
  return {
    state: 'failing',
    healthy: false,
    reason: 'no replica is configured: nothing is stored',
    remedy: 'add a replica to the config',
  };
}

/** Whether every replica holds what was committed when the database was last seen. */
function isStored({ replicas }: DatabaseFacts): boolean {
  const all = replicas.map(({ replication }) => replication?.restorable === true && !replication.lag);
  return all.length > 0 && all.every(Boolean);
}

function blocked({ sinceMs }: Lasting, reason: string, remedy: string): Verdict {
  return { state: 'blocked', healthy: false, reason, remedy, sinceMs };
}

function verdictOfReplicas(replicas: readonly ReplicaStatus[]): Verdict {
  const rank = ({ healthy, state }: ReplicaStatus): number =>
    (healthy ? STATES.length : 0) + STATES.indexOf(state);
  const [worst] = replicas.toSorted((a, b) => rank(a) - rank(b));
  if (!worst) return { state: 'ok', healthy: true };
  const { name, state, healthy, reason, remedy, since } = worst;
  return {
    state,
    healthy,
    reason: reason === null ? undefined : `replica ${name}: ${reason}`,
    remedy: remedy ?? undefined,
    sinceMs: since === null ? undefined : Date.parse(since),
  };
}

function replicaStatus(facts: ReplicaFacts, database: DatabaseFacts, nowMs: number): ReplicaStatus {
  const { stats, location, replication } = facts;
  const { snapshot, lastFailure, oldestSnapshotAtMs } = stats;
  const { lag } = replication ?? {};
  // What is not followed may hold commits that nobody knows of.
  const known = replication !== undefined && database.followed;
  return {
    name: stats.name,
    type: stats.type,
    location: location ?? null,
    ...shown(replicaVerdict(facts, database, nowMs)),
    position: replication?.position ?? null,
    lagMs: known ? Math.round(lag?.ms ?? 0) : null,
    backlogBytes: known ? (lag?.bytes ?? 0) : null,
    lastUploadAt: iso(stats.lastUploadAtMs),
    lastError: lastFailure
      ? { message: lastFailure.message, at: isoOf(lastFailure.atMs), ageMs: age(lastFailure.atMs, nowMs) }
      : null,
    requests: stats.requests.counts(),
    lastSnapshot: snapshot
      ? {
          generation: snapshot.generation,
          index: snapshot.index,
          at: isoOf(snapshot.createdAtMs),
          sizeBytes: snapshot.sizeBytes,
        }
      : null,
    restorable:
      replication?.restorable === true && oldestSnapshotAtMs !== undefined
        ? { from: isoOf(oldestSnapshotAtMs), to: isoOf(nowMs - (lag?.ms ?? 0)) }
        : null,
    lastVerification: stats.verification ?? null,
    lastLookAt: iso(stats.lastLookAtMs),
    otherWriter: stats.otherWriter
      ? { object: stats.otherWriter.key, at: isoOf(stats.otherWriter.atMs) }
      : null,
    retentionRefused: stats.retentionRefused,
  };
}

function replicaVerdict(facts: ReplicaFacts, database: DatabaseFacts, nowMs: number): Verdict {
  const { stats, replication } = facts;
  const failure = stats.failures.find(({ activity }) => activity !== 'retainer');
  if (failure) return failing(failure, facts);
  if (stats.loss) return lost(stats.loss, facts);
  if (replication?.restorable !== true) return unready(facts, nowMs);
  const { lag } = replication;
  const well = wellVerdict(stats, nowMs);
  const limitMs = patienceMs(facts.syncIntervalMs);
  if (!lag || lag.ms < limitMs || !database.followed) return well;
  const shrinks = nowMs - (stats.lastUploadAtMs ?? -Infinity) < limitMs;
  return {
    state: 'lagging',
    healthy: shrinks && lag.ms < CATCH_UP_MS,
    reason: `${shrinks ? 'the store is slower than the commits' : 'the store takes nothing'}: ${words(lag)}`,
    remedy: `check that ${facts.location ?? 'the store'} answers, and how fast`,
    sinceMs: nowMs - lag.ms,
  };
}

function wellVerdict(
  { failures, otherWriter, retentionBreach, clockDoubt, lastCommitMs, previousCommitMs }: ReplicaStats,
  nowMs: number,
): Verdict {
  const [retention] = failures;
  if (otherWriter) {
    const reason = `another process has written ${otherWriter.key}: this one has a generation of its own`;
    const remedy = 'let only one process replicate into it, or give each its own path';
    return { state: 'ok', healthy: true, reason, remedy, sinceMs: otherWriter.atMs };
  }
  if (retentionBreach) return { state: 'ok', healthy: true, ...retentionBreach };
  const future = describeFuture(lastCommitMs, nowMs) ?? describeFuture(previousCommitMs, nowMs);
  const doubt = clockDoubt ?? future;
  if (!retention) return { state: 'ok', healthy: true, reason: doubt };
  const reason = `retention is not enforced: ${retention.message}`;
  return { state: 'ok', healthy: true, reason, sinceMs: retention.sinceMs };
}

/** Until the next generation can be restored, there is no backup that can be relied on. */
function lost({ reason, sinceMs }: Lasting, { location }: ReplicaFacts): Verdict {
  const remedy = `another generation is being stored; see who else deletes or writes in ${location ?? 'the store'}`;
  return { state: 'failing', healthy: false, reason, remedy, sinceMs };
}

/** Nothing can be restored yet, which is well for a bounded time only. */
function unready({ replication, unready: since, location }: ReplicaFacts, nowMs: number): Verdict {
  const { sinceMs = nowMs, movedAtMs = nowMs } = since ?? {};
  if (!replication) {
    const reason = 'the database is not followed yet';
    if (nowMs - sinceMs < WAITING_MS) return { state: 'waiting', healthy: true, reason };
    return { state: 'failing', healthy: false, reason, remedy: 'check that the database is there', sinceMs };
  }
  const what = replication.learnt
    ? 'the first snapshot is under way'
    : 'it is being found out what is stored';
  if (nowMs - movedAtMs < STILL_START_MS && nowMs - sinceMs < LONG_START_MS)
    return { state: 'starting', healthy: true, reason: what };
  const reason = `nothing can be restored yet: ${what}, and does not get on`;
  const remedy = `check that ${location ?? 'the store'} answers, and how fast; see the log`;
  return { state: 'failing', healthy: false, reason, remedy, sinceMs };
}

function words({ bytes, ms }: ReplicaLag): string {
  const seconds = formatDuration(Math.round(ms / 1000) * 1000);
  return `commits have been waiting for ${seconds} (${bytes} bytes of wal)`;
}

function failing(failure: FailureStats, { location }: ReplicaFacts): Verdict {
  return {
    state: 'failing',
    healthy: false,
    reason: `${failure.activity} error: ${failure.message}`,
    remedy: failureRemedy(failure, location ?? 'the store'),
    sinceMs: failure.sinceMs,
  };
}

function isoOf(ms: number): string {
  return new Date(ms).toISOString();
}

function iso(ms: number | undefined): string | null {
  return ms === undefined ? null : isoOf(ms);
}

/** Never negative: clocks are set back now and then. */
function age(ms: number, nowMs: number): number {
  return Math.max(0, Math.round(nowMs - ms));
}
