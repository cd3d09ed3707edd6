/** Damages every object of a replica in every way that matters, one at a time: what a test does about it is its own. */

import { Replica } from '../../src/engine/replica.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { type FakeSource, OPTIONS, recordingLogger } from './replica-rig.ts';

/** All bits of all objects take minutes: LITESTREAM_SOAK=1. */
export const ALL_BITS: boolean = process.env['LITESTREAM_SOAK'] !== undefined;

/** How long a test of flipped bits may take. */
export const FLIPS_TIMEOUT_MS: number = ALL_BITS ? 3600_000 : 120_000;

export interface Damage {
  /** In words. */
  readonly what: string;
  /** The length of what is left, or the bit. */
  readonly number: number;
  /** What is stored in place of the object; undefined: nothing. */
  readonly data: Buffer | undefined;
}

/** Replicates `source` into `store`, each commit at once. */
export function startReplica(source: FakeSource, store: ObjectStore, snapshotIntervalMs: number): Replica {
  const replica = new Replica({
    options: { ...OPTIONS, snapshotIntervalMs, syncIntervalMs: 1 },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger([]),
    // Damage is for the verification to find.
    lookIntervalMs: 3600_000,
  });
  replica.start();
  return replica;
}

/** What is stored, by key in order. */
export async function contentsOf(store: ObjectStore): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for await (const { key } of store.list('')) {
    const parts: Uint8Array[] = [];
    for await (const part of (await store.get(key)).stream) parts.push(Uint8Array.from(part));
    found.set(key, Buffer.concat(parts));
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * Damages each object in all `ways`, one after the other, and makes it whole again.
 * @param examine looks at the store with the one damage in it
 * @param afterEach told what came out of the damages to one object
 */
export async function damageEach<T>(
  store: ObjectStore,
  objects: ReadonlyMap<string, Buffer>,
  ways: (data: Buffer) => Iterable<Damage>,
  examine: (key: string, damage: Damage, whole: Buffer) => Promise<T>,
  afterEach: (key: string, results: readonly T[]) => void = () => undefined,
): Promise<void> {
  for (const [key, whole] of objects) {
    const results: T[] = [];
    for (const damage of ways(whole)) {
      if (damage.data === undefined) await store.delete([key]);
      else await store.put(key, damage.data);
      results.push(await examine(key, damage, whole));
    }
    await store.put(key, whole);
    afterEach(key, results);
  }
}

export function removal(): Damage[] {
  return [{ what: 'removal', number: 0, data: undefined }];
}

/** Cuts in the frame, at its trailer and in it. */
export function cuts(whole: Buffer): Damage[] {
  const size = whole.byteLength;
  const lengths = [0, 1, 7, 14, 15, 40, size >> 1, size - 1];
  for (const inTrailer of [-1, 0, 1, 8, 30, 90]) lengths.push(size - trailerSizeOf(whole) + inTrailer);
  return lengths
    .filter((length) => length < size)
    .map((length) => ({ what: `cut at ${length}`, number: length, data: whole.subarray(0, length) }));
}

/**
 * Flips one bit at a time: all of them when asked to (see ALL_BITS), else some.
 * @param each bits anywhere, and as many in the trailer
 * @param step every so many bits at the frame's head, at the trailer's and at the end
 */
export function flips({
  each,
  step,
}: {
  readonly each: number;
  readonly step: number;
}): (whole: Buffer) => Iterable<Damage> {
  const seed = Math.floor(Math.random() * 1e6);
  return function* (whole) {
    const count = whole.byteLength * 8;
    for (const bit of ALL_BITS ? Array(count).keys() : someBits(whole, { seed, each, step })) {
      const data = Buffer.from(whole);
      data[bit >> 3]! ^= 1 << (bit & 7);
      yield { what: `bit ${bit} of ${count} (seed ${seed})`, number: bit, data };
    }
  };
}

function someBits(
  whole: Buffer,
  { seed, each, step }: { readonly seed: number; readonly each: number; readonly step: number },
): ReadonlySet<number> {
  const count = whole.byteLength * 8;
  const trailerBits = trailerSizeOf(whole) * 8;
  const trailerAt = count - trailerBits;
  const chosen = new Set<number>();
  for (let i = 0; i < each; i++) {
    chosen.add(((seed + i) * 2_654_435_761) % count);
    chosen.add(trailerAt + (((seed + i) * 40_503) % trailerBits));
  }
  for (let bit = seed % step; bit < 120; bit += step) {
    chosen.add(bit);
    chosen.add(trailerAt + bit);
    chosen.add(count - 1 - bit);
  }
  return chosen;
}

/** As the footer of an object says. */
export function trailerSizeOf(whole: Buffer): number {
  return whole.readUInt32LE(whole.byteLength - 12);
}
