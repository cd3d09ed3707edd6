/** A busy database has a hundred thousand segments a day: lists are longer than a call takes arguments. */

import { expect, it } from 'vitest';
import { formatTable } from '../../src/cmd/table.ts';
import { planRestore } from '../../src/engine/restore-plan.ts';
import { surveyRetention } from '../../src/engine/retention.ts';
import { readTimeline } from '../../src/engine/timeline.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import type { ObjectInfo, ObjectStore } from '../../src/storage/object-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { name, segment, snapshot } from './retention-simulation.ts';

const MANY = 200_000;

/** A store that lists what is given. */
function listing(keys: readonly string[]): ObjectStore {
  const list = async function* (prefix: string): AsyncGenerator<ObjectInfo> {
    await Promise.resolve();
    for (const key of keys) if (key.startsWith(prefix)) yield { key, sizeBytes: 1, modifiedAt: new Date(0) };
  };
  const listPrefixes = async function* (): AsyncGenerator<string> {
    await Promise.resolve();
    yield name(1);
  };
  return Object.assign(openMemoryStore(), { list, listPrefixes });
}

const many = <T>(of: (i: number) => T): T[] => Array.from({ length: MANY }, (_, i) => of(i));

it('are shown in a timeline', async () => {
  const store = listing([snapshotKey(name(1), 0), ...many((i) => segmentKey(name(1), i, 0))]);
  const { ranges } = await readTimeline(store, {});
  expect(ranges).toMatchObject([{ minIndex: 0, maxIndex: MANY - 1, objectCount: MANY + 1 }]);
});

it('are looked at for retention', async () => {
  const store = listing(many((i) => snapshotKey(name(1), i)));
  const now = 1000;
  const survey = await surveyRetention({ store, retentionMs: 3600_000, currentGeneration: name(1), now });
  expect(survey.snapshots).toHaveLength(MANY);
});

it('are planned from', () => {
  const [snapshots, segments] = [many((i) => snapshot(1, i, 5000)), many((i) => segment(1, i, 0, 5000))];
  const replicas = [{ name: 'r', generations: [{ generation: name(1), snapshots, segments }] }];
  expect(planRestore(replicas, { timestamp: new Date(1000) })).toMatchObject({
    failure: { message: expect.stringContaining('earliest 1970-01-01T00:00:05.000Z') as string },
  });
});

it('are printed', () => {
  const table = formatTable(
    ['index'],
    many((i) => [String(i)]),
  );
  expect(table.trimEnd().split('\n')).toHaveLength(MANY + 1);
});
