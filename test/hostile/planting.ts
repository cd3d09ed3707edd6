/** Objects that somebody puts into a replica who may put, and knows the names: foreign ones, copies, and forged ones. */

import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { encodeTrailer, type ObjectTrailer } from '../../src/format/object-trailer.ts';
import { trailerIn, withoutTrailer } from '../support/trailers.ts';
import type { Chance } from './chance.ts';
import type { Holdings, Lie, LieMaker } from './lie.ts';
import type { Truth } from './truth.ts';

const HOUR_MS = 3600_000;
const LAST = 0xffff_ffff;
const FOREIGN = ['f'.repeat(16), '0'.repeat(16), '0123456789abcdef'];
const FLOOD = 20_000;
const LARGE_FLOOD = 200_000;

/** Where a name stands among others. */
export interface Place {
  readonly kind: 'segment' | 'snapshot';
  readonly generation: string;
  readonly index: number;
  readonly offset: number;
}

export function keyOf({ kind, generation, index, offset }: Place): string {
  return kind === 'segment' ? segmentKey(generation, index, offset) : snapshotKey(generation, index);
}

export function placeOf(key: string): Place {
  const [, generation = ''] = key.split('/');
  const [index = 0, offset = 0] = [...(key.split('/').at(-1) ?? '').matchAll(/[0-9a-f]{8}/g)].map(([hex]) =>
    Number.parseInt(hex, 16),
  );
  return { kind: key.includes('/wal/') ? 'segment' : 'snapshot', generation, index, offset };
}

/** The name of one of ours at which nothing true stands. */
function foreignPlace(chance: Chance, truth: Truth): Place {
  const places = [...truth.objects.keys()].map(placeOf);
  for (;;) {
    const generation = chance.of([...truth.generations, ...truth.generations, ...FOREIGN]);
    const near = places.filter((place) => place.generation === generation);
    const last = near.reduce((most, { index }) => Math.max(most, index), 0);
    const kind = chance.of(['segment', 'snapshot'] as const);
    const index = chance.of([
      0,
      last,
      last + 1,
      last + 1,
      last + 2,
      last + 1000,
      LAST - 1,
      LAST,
      chance.below(last + 1),
    ]);
    const offset = chance.of([0, 32, 4152, 4096, LAST, chance.below(1 << 17), near.at(-1)?.offset ?? 0]);
    const place = { kind, generation, index, offset };
    if (!truth.objects.has(keyOf(place))) return place;
  }
}

function whenever(chance: Chance): Date {
  return new Date(Date.now() - Math.floor(chance.of([0, 1, 20, 40, 60, 100]) * HOUR_MS * chance.next()));
}

function planted(
  name: string,
  chance: Chance,
  truth: Truth,
  contents: (chance: Chance) => Buffer,
  more: Partial<Lie> = {},
): Lie {
  const objects = Array.from({ length: 1 + chance.below(3) }, () => ({
    key: keyOf(foreignPlace(chance, truth)),
    data: contents(chance),
    modifiedAt: whenever(chance),
  }));
  const plant = (held: Holdings): void => {
    for (const { key, ...object } of objects) held.set(key, object);
  };
  const where = objects.map(({ key }) => key.slice('generations/'.length)).join(' ');
  return { name: `${name} ${where}`, reach: 'adds', plant, ...more };
}

function trueObject(chance: Chance, truth: Truth): [string, Buffer] {
  const [key, { data }] = chance.of([...truth.objects]);
  return [key, data];
}

/** Copies say what they are copies of, unless they are v0.3.13's: those are as good as forged. */
function reachOfCopies(truth: Truth): Pick<Lie, 'reach'> {
  return { reach: truth.isTold ? 'adds' : 'forges' };
}

const bombs = new Map<number, Buffer>();

/** A frame that says nothing of its size. */
export function bomb(sizeBytes: number): Buffer {
  let data = bombs.get(sizeBytes);
  if (!data) {
    data = Buffer.from(encodeLz4FrameBytes(Buffer.alloc(sizeBytes)));
    bombs.set(sizeBytes, data);
  }
  return data;
}

const ODD_NAMES = [
  'generations/',
  'generations/x/wal/00000000_00000000.wal.lz4',
  'generations/ABCDEF0123456789/snapshots/00000000.snapshot.lz4',
  'generations/%2e%2e/snapshots/00000000.snapshot.lz4',
  'generations/\u001b[2J\u0007/snapshots/00000000.snapshot.lz4',
  'generations/a\nb/wal/00000000_00000000.wal.lz4',
  'generations/\u202e0000000000000000/wal/00000000_00000000.wal.lz4',
  'generations/\ud83d\ude00/snapshots/\u00e9.snapshot.lz4',
  'litestream-clock/x',
  'x'.repeat(900),
];

function oddNamesIn(generation: string): string[] {
  const root = `generations/${generation}`;
  return [
    `${root}/snapshots/FFFFFFFF.snapshot.lz4`,
    `${root}/snapshots/000000001.snapshot.lz4`,
    `${root}/snapshots/00000000.snapshot.lz4.tmp`,
    `${root}/snapshots/\u001b]0;owned\u0007.snapshot.lz4`,
    `${root}/wal/00000000_100000000.wal.lz4`,
    `${root}/wal/00000000.wal.lz4`,
    `${root}/wal/00000000_0000000g.wal.lz4`,
    `${root}/wal/00000000/00000000.wal.lz4`,
    `${root}/wal/${'deep/'.repeat(120)}x`,
    `${root}/wal/\u0000x`,
    `${root}/${'y'.repeat(850)}`,
  ];
}

function flood(chance: Chance, truth: Truth, count: number): Lie {
  const generation = chance.of([...truth.generations, ...FOREIGN]);
  const kind = chance.of(['segment', 'snapshot', 'generation'] as const);
  const modifiedAt = whenever(chance);
  const plant = (held: Holdings): void => {
    const data = Buffer.alloc(0);
    for (let i = 0; i < count; i++) {
      const name = (0x1000 + i).toString(16).padStart(8, '0');
      const key =
        kind === 'generation'
          ? `generations/${name.padStart(16, 'e')}/snapshots/00000000.snapshot.lz4`
          : keyOf({ kind, generation, index: 0x1000 + i, offset: 0 });
      held.set(key, { data, modifiedAt });
    }
  };
  return { name: `${count} of ${kind} in ${generation}`, reach: 'adds', plant };
}

/** A true object under another name, with a trailer that says that it belongs there. */
function forge(chance: Chance, truth: Truth): Lie {
  const [, data] = trueObject(chance, truth);
  const trailer = trailerIn(data);
  const place = foreignPlace(chance, truth);
  if (!trailer) return planted('copies', chance, truth, () => data, { reach: 'forges' });
  const time = chance.of([undefined, 0, 8.64e15, Date.now() + 365 * 24 * HOUR_MS, Date.now() - 40 * HOUR_MS]);
  const { kind } = trailer;
  const to = { ...place, kind, offset: kind === 'segment' ? offsetFor(chance, truth, trailer.start) : 0 };
  const forged = restate(trailer, to, time);
  const key = keyOf(to);
  const object = {
    data: Buffer.concat([withoutTrailer(data), encodeTrailer(forged)]),
    modifiedAt: whenever(chance),
  };
  return {
    name: `forged ${key}`,
    reach: 'forges',
    plant: (held) => {
      if (!truth.objects.has(key)) held.set(key, object);
    },
  };
}

/** Where WAL may begin that began elsewhere: at the end of a frame, as some true segment does. */
function offsetFor(chance: Chance, truth: Truth, start: number): number {
  const offsets = [...truth.objects.keys()].map((key) => placeOf(key).offset).filter((offset) => offset > 0);
  return start === 0 ? 0 : chance.of([start, ...offsets]);
}

function restate(trailer: ObjectTrailer, place: Place, timeMs: number | undefined): ObjectTrailer {
  const { generation, index } = place;
  if (trailer.kind === 'snapshot')
    return { ...trailer, generation, index, timeMs: timeMs ?? trailer.timeMs, origin: undefined };
  const { start, end, commits } = trailer;
  const moved = place.offset - start;
  return {
    ...trailer,
    generation,
    index,
    start: start + moved,
    end: end + moved,
    commits: commits.map((commit) => ({ offset: commit.offset + moved, timeMs: timeMs ?? commit.timeMs })),
    origin: undefined,
  };
}

/** A whole generation under another name, stored now. */
function copyGeneration(chance: Chance, truth: Truth): Lie {
  const from = chance.of(truth.generations);
  const to = chance.of(FOREIGN);
  const at = whenever(chance);
  return {
    name: `generation ${from} as ${to}`,
    ...reachOfCopies(truth),
    plant: (held) => {
      for (const [key, { data }] of truth.objects)
        if (key.includes(from)) held.set(key.replace(from, to), { data, modifiedAt: at });
    },
  };
}

export const PLANTINGS: readonly LieMaker[] = [
  (chance, truth) => planted('empty', chance, truth, () => Buffer.alloc(0)),
  (chance, truth) => planted('junk', chance, truth, (c) => Buffer.alloc(1 + c.below(9000), c.below(256))),
  (chance, truth) => planted('copies', chance, truth, (c) => trueObject(c, truth)[1], reachOfCopies(truth)),
  (chance, truth) =>
    planted('cut', chance, truth, (c) => {
      const [, data] = trueObject(c, truth);
      return data.subarray(0, c.below(data.length));
    }),
  (chance, truth) => planted('bomb', chance, truth, (c) => bomb(c.of([1, 1, 1, 16, 64]) << 20)),
  (chance, truth) => {
    const names = chance.shuffled([...ODD_NAMES, ...truth.generations.flatMap(oddNamesIn)]).slice(0, 6);
    const [, data] = trueObject(chance, truth);
    const modifiedAt = whenever(chance);
    const plant = (held: Holdings): void => names.forEach((name) => held.set(name, { data, modifiedAt }));
    return { name: 'odd names', reach: 'adds', plant };
  },
  copyGeneration,
  forge,
  forge,
  (chance, truth) => planted('copies', chance, truth, (c) => trueObject(c, truth)[1], reachOfCopies(truth)),
  (chance, truth) => {
    const count = chance.comes(0.05) ? FLOOD : chance.of([300, 1000]);
    return flood(chance, truth, chance.comes(0.003) ? LARGE_FLOOD : count);
  },
];
