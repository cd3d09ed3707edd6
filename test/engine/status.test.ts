/** The status as a pure function of what is known: which word, well or not, why, and what to do. */

import { describe, expect, it } from 'vitest';
import { newDatabaseStats, newReplicaStats, type FailureStats } from '../../src/engine/stats.ts';
import {
  type DatabaseFacts,
  type DatabaseStatus,
  type ReplicaFacts,
  databaseStatus,
  processStatus,
} from '../../src/engine/status.ts';

const NOW = Date.parse('2026-01-01T12:00:00Z');
const POSITION = { generation: '0123456789abcdef', index: 1, offset: 4152 };

function replica(facts: Partial<ReplicaFacts> = {}, name = 's3'): ReplicaFacts {
  return {
    stats: {
      ...newReplicaStats(name, 's3'),
      lastUploadAtMs: NOW - 100_000,
      oldestSnapshotAtMs: NOW - 3600_000,
    },
    location: 's3://b/p',
    syncIntervalMs: 1000,
    replication: { learnt: true, restorable: true, position: POSITION, lag: undefined },
    ...facts,
  };
}

const behind = (ms: number): Partial<ReplicaFacts> => ({
  replication: { learnt: true, restorable: true, position: POSITION, lag: { bytes: 4120, ms } },
});

function failing(...failures: Partial<FailureStats>[]): ReplicaFacts {
  const all = failures.map((failure): FailureStats => ({
    activity: 'monitor',
    message: 'refused',
    code: 'unavailable',
    sinceMs: NOW - 5000,
    atMs: NOW - 1000,
    ...failure,
  }));
  const facts = replica(behind(5000));
  return { ...facts, stats: { ...facts.stats, failures: all, lastFailure: all[0] } };
}

function status(facts: Partial<DatabaseFacts> = {}): DatabaseStatus {
  const base: DatabaseFacts = {
    stats: newDatabaseStats('/db'),
    metaPath: '/.db-litestream',
    monitorIntervalMs: 1000,
    position: POSITION,
    followed: true,
    stopping: false,
    problem: undefined,
    delay: undefined,
    obstacle: undefined,
    pin: undefined,
    stuck: undefined,
    replicas: [replica()],
  };
  return databaseStatus({ ...base, ...facts }, NOW);
}

const problem = (
  kind: 'missing' | 'no-folder' | 'gone' | 'broken',
  forMs = 60_000,
): Partial<DatabaseFacts> => ({
  followed: false,
  problem: { message: 'it is not', code: 'not-found', sinceMs: NOW - forMs, kind },
});
const lasting = (ms: number): { reason: string; sinceMs: number } => ({
  reason: 'in the way',
  sinceMs: NOW - ms,
});

describe('a database', () => {
  it.each<[string, Partial<DatabaseFacts>, Partial<DatabaseStatus>]>([
    ['all is stored', {}, { state: 'ok', healthy: true, reason: null, since: null }],
    ['it is being opened', { followed: false }, { state: 'starting', healthy: true }],
    [
      'it is being opened for too long',
      { followed: false, unfollowedSinceMs: NOW - 10 * 60_000 },
      { state: 'failing', healthy: false, reason: 'the database is still being opened' },
    ],
    ['it is not there yet', problem('missing'), { state: 'waiting', healthy: true, remedy: null }],
    [
      'it does not come',
      { ...problem('missing', 3600_000), replicas: [replica({ replication: undefined })] },
      { state: 'failing', healthy: false, reason: 'it is not' },
    ],
    [
      'nobody has it open, and all that it holds is stored',
      { ...problem('missing', 100 * 3600_000), mode: 'read-only' },
      { state: 'waiting', healthy: true },
    ],
    [
      'nobody has it open, and what it holds cannot be stored',
      { ...problem('missing'), replicas: [failing({})], mode: 'read-only' },
      { state: 'failing', healthy: false, mode: 'read-only' },
    ],
    ['it can be written', { mode: 'read-write' }, { state: 'ok', mode: 'read-write' }],
    ['its folder is not there', problem('no-folder'), { state: 'failing', healthy: false }],
    [
      'it was moved away',
      problem('gone'),
      { state: 'failing', healthy: false, since: '2026-01-01T11:59:00.000Z' },
    ],
    ['it fails', problem('broken'), { state: 'failing', healthy: false, reason: 'it is not' }],
    [
      'the watchdog found it',
      { stuck: lasting(1) },
      { state: 'stuck', healthy: false, reason: 'in the way' },
    ],
    ['a writer pauses', { delay: lasting(2000) }, { state: 'ok', healthy: true }],
    ['a writer never pauses', { delay: lasting(2500) }, { state: 'blocked', healthy: false }],
    ['a reader is slow', { obstacle: lasting(2000) }, { state: 'ok', healthy: true }],
    ['a reader never ends', { obstacle: lasting(2500) }, { state: 'blocked', healthy: false }],
    ['it is being stopped', { stopping: true }, { state: 'stopping', healthy: true }],
    [
      'nobody stores it',
      { replicas: [] },
      { state: 'failing', healthy: false, remedy: 'add a replica to the config' },
    ],
    [
      'one replica of two fails',
      { replicas: [replica(), failing({})] },
      { state: 'failing', healthy: false, reason: 'replica s3: monitor error: refused' },
    ],
    [
      'one lags and one fails',
      { replicas: [replica(behind(9000), 'slow'), failing({})] },
      { state: 'failing', healthy: false },
    ],
  ])('%s', (_, facts, expected) => {
    expect(status(facts)).toMatchObject(expected);
  });

  it('is the first reason of an ill process', () => {
    const self = { version: 'v1', pid: 1, startedAt: '2026-01-01T00:00:00.000Z' };
    const well = status();
    const ill = { ...status({ stuck: lasting(1) }), path: '/other' };
    expect(processStatus(self, [well])).toEqual({ ...self, healthy: true, reason: null, databases: [well] });
    expect(processStatus(self, [well, ill])).toMatchObject({ healthy: false, reason: '/other: in the way' });
  });
});

describe('a replica', () => {
  const unlearnt = { learnt: false, restorable: false, position: undefined, lag: { bytes: 0, ms: 90_000 } };
  const recent = { ...newReplicaStats('s3', 's3'), lastUploadAtMs: NOW - 1000 };
  it.each<[string, ReplicaFacts, object]>([
    ['has all', replica(), { state: 'ok', healthy: true, lagMs: 0, backlogBytes: 0 }],
    ['is asked what it has', replica({ replication: unlearnt }), { state: 'starting', healthy: true }],
    [
      'is asked what it has, and does not get on',
      replica({ replication: unlearnt, unready: { sinceMs: NOW - 700_000, movedAtMs: NOW - 600_000 } }),
      { state: 'failing', healthy: false },
    ],
    [
      'gets its first snapshot, and slowly',
      replica({ replication: unlearnt, unready: { sinceMs: NOW - 7200_000, movedAtMs: NOW - 599_999 } }),
      { state: 'starting', healthy: true },
    ],
    [
      'gets its first snapshot for a day',
      replica({ replication: unlearnt, unready: { sinceMs: NOW - 24 * 3600_000, movedAtMs: NOW } }),
      { state: 'failing', healthy: false },
    ],
    [
      'has a database that nobody follows',
      replica({ replication: undefined, unready: { sinceMs: NOW - 3600_000, movedAtMs: NOW } }),
      { state: 'failing', healthy: false },
    ],
    [
      'has lost what was stored',
      replica({ stats: { ...newReplicaStats('s3', 's3'), loss: { reason: 'gone', sinceMs: NOW } } }),
      { state: 'failing', healthy: false, reason: 'gone' },
    ],
    [
      'was written by another process',
      replica({ stats: { ...newReplicaStats('s3', 's3'), otherWriter: { key: 'k', atMs: NOW } } }),
      { state: 'ok', healthy: true, otherWriter: { object: 'k', at: '2026-01-01T12:00:00.000Z' } },
    ],
    [
      'gets its first snapshot',
      replica({ replication: { ...unlearnt, learnt: true } }),
      { state: 'starting', healthy: true, restorable: null },
    ],
    ['has to wait for the database', replica({ replication: undefined }), { state: 'waiting', lagMs: null }],
    ['is a moment behind', replica(behind(2400)), { state: 'ok', healthy: true, lagMs: 2400 }],
    ['takes nothing', replica(behind(2500)), { state: 'lagging', healthy: false, lagMs: 2500 }],
    ['has a long interval', replica({ ...behind(20_000), syncIntervalMs: 10_000 }), { state: 'ok' }],
    ['is slow', replica({ ...behind(30_000), stats: recent }), { state: 'lagging', healthy: true }],
    ['is too slow', replica({ ...behind(60_000), stats: recent }), { state: 'lagging', healthy: false }],
    [
      'fails',
      failing({}),
      {
        state: 'failing',
        healthy: false,
        since: '2026-01-01T11:59:55.000Z',
        remedy: 'check that s3://b/p is there and can be reached; it is tried again by itself',
        lastError: { message: 'refused', at: '2026-01-01T11:59:59.000Z', ageMs: 1000 },
      },
    ],
    ['does not restore', failing({ activity: 'validation' }), { state: 'failing', healthy: false }],
    [
      'only keeps too much',
      { ...failing({ activity: 'retainer' }), replication: replica().replication },
      { state: 'ok', healthy: true, reason: 'retention is not enforced: refused' },
    ],
  ])('%s', (_, facts, expected) => {
    expect(status({ replicas: [facts] }).replicas[0]).toMatchObject(expected);
  });

  it.each([
    ['a last commit that is', 'lastCommitMs'],
    ['a generation before it that ends in one', 'previousCommitMs'],
  ])('is well, and tells of %s dated in the future', (_, name) => {
    const facts = replica();
    const told = (timeMs: number): string | null | undefined =>
      status({ replicas: [{ ...facts, stats: { ...facts.stats, [name]: timeMs } }] }).replicas[0]?.reason;
    expect(told(NOW + 600_000)).toMatch(/the last commit is dated in the future \(2026-01-01T12:10:00/);
    expect(told(NOW + 60_000)).toBeNull();
  });

  it('restores from the oldest snapshot to the oldest commit that is not stored', () => {
    expect(status({ replicas: [replica(behind(1000))] }).replicas[0]?.restorable).toEqual({
      from: '2026-01-01T11:00:00.000Z',
      to: '2026-01-01T11:59:59.000Z',
    });
  });
});
