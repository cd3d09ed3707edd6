/** The last hour in memory: buckets by the clock, totals of pipelines that begin anew, changes of state. */

import { describe, expect, test } from 'vitest';
import { History } from '../../src/control/history.ts';
import type { DatabaseStatus } from '../../src/engine/status.ts';

const START = Date.UTC(2026, 0, 1);

function scene(): {
  history: History;
  at: (ms: number, lagMs: number | null, bytes: number, state?: string) => void;
} {
  let now = START;
  let status: unknown[] = [];
  const history = new History(
    () => status as DatabaseStatus[],
    () => now,
  );
  return {
    history,
    at(ms, lagMs, bytes, state = 'ok') {
      now = START + ms;
      const requests = [
        { type: 's3', operation: 'PUT', count: bytes / 10, bytes },
        { type: 's3', operation: 'GET', count: 1, bytes: 999 },
      ];
      const replicas = [{ lagMs, requests }];
      status = [{ path: '/db', state, healthy: state === 'ok', reason: null, walSizeBytes: 7, replicas }];
      history.sample();
    },
  };
}

describe('history', () => {
  test('keeps the largest lag and the sum of uploads of each bucket, and nothing of what nobody saw', () => {
    const { history, at } = scene();
    at(0, 100, 1000);
    at(5_000, 700, 1500);
    at(10_000, 200, 1500);
    at(95_000, null, 4000);
    const { databases, lastBucketAt, bucketMs } = history.report();
    const [row] = databases;
    expect(bucketMs).toBe(30_000);
    expect(lastBucketAt).toBe(new Date(START + 90_000).toISOString());
    expect(row?.lagMs).toHaveLength(120);
    expect(row?.lagMs.slice(-5)).toEqual([null, 700, null, null, null]);
    expect(row?.uploadedBytes.slice(-5)).toEqual([null, 1500, null, null, 2500]);
    expect(row?.walSizeBytes.slice(-5)).toEqual([null, 7, null, null, 7]);
    // The first sample of a pipeline counts all of it.
    expect(row?.requests.slice(-5)).toEqual([null, 151, null, null, 250]);
  });

  test('never forgets an hour, never keeps more', () => {
    const { history, at } = scene();
    for (let i = 0; i < 500; i++) at(i * 30_000, i, 0);
    const [row] = history.report().databases;
    expect(row?.lagMs).toEqual(Array.from({ length: 120 }, (_, i) => 380 + i));
  });

  test('a pipeline that was restarted counts from zero, and a clock that is set back harms nothing', () => {
    const { history, at } = scene();
    at(0, 0, 5000);
    at(40_000, 0, 100);
    at(10_000, 0, 200);
    const [row] = history.report().databases;
    expect(row?.uploadedBytes.slice(-2)).toEqual([5000, 200]);
  });

  test('tells when a state has changed, the newest first', () => {
    const { history, at } = scene();
    at(0, 0, 0, 'starting');
    at(5000, 0, 0);
    at(10_000, 0, 0);
    at(15_000, 0, 0, 'failing');
    const times = history.report().events.map(({ state, at: when }) => [state, Date.parse(when) - START]);
    expect(times).toEqual([
      ['failing', 15_000],
      ['ok', 5000],
      ['starting', 0],
    ]);
  });
});
