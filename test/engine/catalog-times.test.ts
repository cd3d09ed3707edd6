/** A store that says no time of an object: nothing may be ordered or deleted by it. */

import { describe, expect, it } from 'vitest';
import { listObjects, listSegments, listSnapshots } from '../../src/engine/catalog.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { readTimeline } from '../../src/engine/timeline.ts';
import { ForwardingStore } from '../../src/storage/forwarding-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { CallOptions, ObjectInfo } from '../../src/storage/object-store.ts';

const G = '00000000000000aa';

class Timeless extends ForwardingStore {
  override async *list(prefix: string, options?: CallOptions): AsyncGenerator<ObjectInfo, void, undefined> {
    for await (const object of this.inner.list(prefix, options))
      yield { ...object, modifiedAt: new Date(Number.NaN) };
  }
}

describe('a time that is none', () => {
  it.each([snapshotKey(G, 0), segmentKey(G, 0, 0)])('is refused, naming the object: %s', async (key) => {
    const store = new Timeless(openMemoryStore());
    await store.put(key, new Uint8Array(9));
    const expected = {
      code: 'io',
      message: `the store gives no valid time of object ${key}: check the store`,
    };
    await expect(listObjects(store, G)).rejects.toMatchObject(expected);
    await expect(
      key.includes('/wal/') ? listSegments(store, G) : listSnapshots(store, G),
    ).rejects.toMatchObject(expected);
    await expect(readTimeline(store, {})).rejects.toMatchObject({ code: 'io' });
  });

  it('does not matter of what is not ours', async () => {
    const store = new Timeless(openMemoryStore());
    await store.put(`generations/${G}/wal/x`, new Uint8Array(9));
    expect(await listObjects(store, G)).toEqual({ snapshots: [], segments: [] });
  });
});
