/** A store that has the times of its objects wrong: what retention deletes because of a snapshot goes by its own time too. */

import { describe, expect, it } from 'vitest';
import { planProven } from '../../src/engine/retention.ts';
import { listObjects } from '../../src/engine/catalog.ts';
import { snapshotKey } from '../../src/format/names.ts';
import { ForwardingStore } from '../../src/storage/forwarding-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { CallOptions, ObjectInfo } from '../../src/storage/object-store.ts';
import { snapshotObject } from '../support/snapshot-object.ts';
import { redated } from '../support/trailers.ts';

const G = '00000000000000aa';
const HOUR_MS = 3600_000;

/** Says that everything is of the epoch. */
class Epoch extends ForwardingStore {
  override async *list(prefix: string, options?: CallOptions): AsyncGenerator<ObjectInfo, void, undefined> {
    for await (const object of this.inner.list(prefix, options)) yield { ...object, modifiedAt: new Date(0) };
  }
}

/** What goes of three snapshots with a window of a day. */
async function deletions(hoursAgo: readonly number[]): Promise<readonly string[]> {
  const store = new Epoch(openMemoryStore());
  const now = Date.now();
  for (const [index, hours] of hoursAgo.entries()) {
    const data = Buffer.from(snapshotObject(G, index));
    await store.put(snapshotKey(G, index), redated(data, hours === Infinity ? 0 : now - hours * HOUR_MS));
  }
  const { snapshots, segments } = await listObjects(store, G);
  const window = { retentionMs: 24 * HOUR_MS, graceMs: 0, now, currentGeneration: G };
  const { plan, breach } = await planProven({ store, snapshots, segments, ...window });
  expect(breach).toBeUndefined();
  return plan.deletions;
}

describe('a store that dates everything long ago', () => {
  it('does not make retention delete what is within the window by its own time', async () => {
    expect(await deletions([3, 2, 1])).toEqual([]);
  });

  it('lets go what is older by both times', async () => {
    expect(await deletions([Infinity, Infinity, 1])).toEqual([snapshotKey(G, 0)]);
  });
});
