/** What an hour with a store that is dead, or refuses snapshots, leaves in the log. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { Replica } from '../../src/engine/replica.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger } from './replica-rig.ts';

/** Turns of the event loop that the work of a second may take: it reads and writes real files. */
const TURNS = 20;

let source: FakeSource;
let log: LogLine[];
beforeEach(() => {
  source = new FakeSource();
  log = [];
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
  source.close();
});

/** How often each message was logged, at each level above DEBUG. */
function tally(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { level, message } of log) {
    if (level !== 'DEBUG') counts[`${level} ${message}`] = (counts[`${level} ${message}`] ?? 0) + 1;
  }
  return counts;
}

/** Lets minutes pass, a second at a time, until `done`. @returns how many */
async function passUntil(done: (minutes: number) => boolean): Promise<number> {
  for (let seconds = 0; ;) {
    await vi.advanceTimersByTimeAsync(1000);
    for (let turn = 0; turn < TURNS; turn++) await nextTurn();
    if (++seconds % 60 === 0 && done(seconds / 60)) return seconds / 60;
  }
}

it.each([
  ['a folder that is dead', true, '', ['monitor', 'snapshotter']],
  // The snapshot waits in the spool for the segments that it needs.
  ['a remote store that is dead', false, '', ['monitor']],
  ['a folder that refuses snapshots', true, '/snapshots/', ['snapshotter']],
  ['a remote store that refuses snapshots', false, '/snapshots/', ['snapshotter']],
])('%s says at most once a minute what fails, and nothing else', { timeout: 120_000 }, async (...args) => {
  const [, local, part, activities] = args;
  const store = new FaultStore(openMemoryStore(), local);
  let attempts = 0;
  store.fault = ({ operation, key }) => {
    if (operation !== 'put' || !key.includes(part)) return;
    attempts++;
    throw new LitestreamError('unavailable', 'the store does not answer');
  };
  source.commit();
  const replica = new Replica({
    options: { ...OPTIONS, syncIntervalMs: 1000 },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger(log),
  });
  replica.start();
  try {
    // Longer than an hour where files are slow: no attempt ends before they are written.
    const minutes = await passUntil((now) => now >= 60 && attempts >= 30);
    const { 'INFO write snapshot': begun, ...errors } = tally();
    expect(begun).toBe(1);
    expect(Object.keys(errors).sort()).toEqual(activities.map((activity) => `ERROR ${activity} error`));
    for (const count of Object.values(errors)) {
      expect(count).toBeGreaterThan(2);
      expect(count).toBeLessThanOrEqual(minutes);
    }
    // Whoever wants to know of each attempt asks for debug lines.
    if (activities.includes('snapshotter')) {
      expect(log.filter(({ level }) => level === 'DEBUG').length).toBeGreaterThan(10);
    }

    store.fault = undefined;
    await passUntil(() => tally()['INFO snapshot written'] === 1);
    expect(tally()).toMatchObject({
      'INFO snapshot written': 1,
      ...Object.fromEntries(activities.map((activity) => [`INFO ${activity} recovered`, 1])),
    });
    source.checkpoint();
    source.commit();
    const again = replica.snapshotSoon(new AbortController().signal);
    await passUntil(() => tally()['INFO snapshot written'] === 2);
    await again;
    expect(tally()).toMatchObject({ 'INFO write snapshot': 2, 'INFO snapshot written': 2 });
  } finally {
    await replica.stop(AbortSignal.abort());
  }
});
