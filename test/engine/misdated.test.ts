/** A last segment whose trailer has a time of the far future, by a clock that was wrong or by malice. */

import { afterEach, beforeEach, expect, it } from 'vitest';
import { listSegments } from '../../src/engine/catalog.ts';
import { readSegmentTrailer } from '../../src/engine/trailer-reader.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { encodeTrailer } from '../../src/format/object-trailer.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { contentsOf } from './damage.ts';
import { Replicas, allStored, until } from './replica-rig.ts';

const HOUR_MS = 3600_000;
const { signal } = new AbortController();

let replicas: Replicas;
let store: ObjectStore;

beforeEach(() => {
  replicas = new Replicas();
  store = openMemoryStore();
});

afterEach(() => replicas.end());

/** Stores a commit, ends the replica, and gives the commit another time. */
async function misdate(timeMs: number): Promise<void> {
  const { source } = replicas;
  source.commit();
  const replica = replicas.start(store);
  await allStored(replica);
  await replica.stop(AbortSignal.timeout(10_000));
  const { generation } = source.position();
  const segment = (await listSegments(store, generation, { signal })).at(-1)!;
  const { offset: start, key } = segment;
  const trailer = (await readSegmentTrailer(store, segment, { signal }))!;
  const { index, end, pageSizeBytes, checksum, previous } = trailer;
  const commits = [{ offset: end, timeMs }];
  const said = {
    generation,
    index,
    start,
    end,
    pageSizeBytes,
    checksum,
    previous,
    commits,
    origin: undefined,
  };
  const content = decodeLz4FrameBytes((await contentsOf(store)).get(key)!);
  const options = {
    contentSizeBytes: content.byteLength,
    trailer: () => encodeTrailer({ kind: 'segment', ...said }),
  };
  await store.put(key, encodeLz4FrameBytes(content, options));
}

/** Times of all commits of the present generation. */
async function times(): Promise<number[]> {
  const found: number[] = [];
  for (const segment of await listSegments(store, replicas.source.position().generation, { signal })) {
    const trailer = await readSegmentTrailer(store, segment, { signal });
    found.push(...trailer!.commits.map(({ timeMs }) => timeMs));
  }
  return found;
}

it('dates nothing that follows: a generation begins with the right times', async () => {
  const { source } = replicas;
  await misdate(Date.UTC(2136, 0));
  const replica = replicas.start(store);
  await until('another generation begins', () => source.restarts.length > 0);
  source.commit();
  await allStored(replica);
  expect(source.restarts).toEqual([
    expect.stringMatching(
      /^replica's last commit is dated 2136-01-01T00:00:00\.000Z, and was stored at 20.*Z$/,
    ),
  ]);
  expect((await times()).every((ms) => ms <= Date.now())).toBe(true);
});

it('of less than a day ahead goes on in its generation, and is told', async () => {
  const { source } = replicas;
  await misdate(Date.now() + 20 * HOUR_MS);
  const replica = replicas.start(store);
  source.commit();
  await allStored(replica);
  expect(source.restarts).toEqual([]);
  expect(replicas.log.map(({ message }) => message)).toContain(
    'the replica holds commits that a wrong clock has dated',
  );
});

it("goes on while this machine's clock is as far ahead", async () => {
  const { source } = replicas;
  const ahead = Date.UTC(2136, 0);
  await misdate(ahead);
  source.clock = () => ahead + 1000;
  const replica = replicas.start(store, {}, { clock: source.clock });
  source.commit();
  await allStored(replica);
  expect(source.restarts).toEqual([]);
});
