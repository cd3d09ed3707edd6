/** Lies of a store about what it holds: true objects overwritten, lists, times, sizes, bodies, errors, puts and deletions. */

import type { ErrorCode } from '../../src/base/errors.ts';
import { encodeTrailer } from '../../src/format/object-trailer.ts';
import { trailerIn, withoutTrailer } from '../support/trailers.ts';
import type { Chance } from './chance.ts';
import type { BodyLie, Lie, LieMaker, Listed, Operation } from './lie.ts';
import type { Truth } from './truth.ts';

const HOUR_MS = 3600_000;

/** Each is tried again by some, and takes its time. */
const CODES: readonly ErrorCode[] = [
  'not-found',
  'exists',
  'permission',
  'unavailable',
  'timeout',
  'corrupt',
  'busy',
  'disk-full',
  'unsupported',
  'io',
];

/** Takes back what a lie says after so many calls: for good, or once in a while. */
function sometimes(chance: Chance): () => boolean {
  let left = chance.of([1, 1, 1, 2, 3, Infinity]);
  const probability = chance.of([1, 1, 0.3]);
  const inner = chance.next;
  return () => left > 0 && inner() < probability && left-- > 0;
}

function flipped(chance: Chance, data: Buffer): Buffer {
  const copy = Buffer.from(data);
  for (let i = 0; i < 1 + chance.below(3) && copy.length > 0; i++)
    copy[chance.below(copy.length)]! ^= 1 << chance.below(8);
  return copy;
}

function overwrite(chance: Chance, truth: Truth): Lie {
  const [key, { data, modifiedAt }] = chance.of([...truth.objects]);
  const [, other] = chance.of([...truth.objects].filter(([name]) => name !== key));
  const how = chance.of(['empty', 'cut', 'flipped', 'other', 'junk'] as const);
  const contents = {
    empty: Buffer.alloc(0),
    cut: data.subarray(0, chance.below(data.length)),
    flipped: flipped(chance, data),
    other: other.data,
    junk: Buffer.alloc(data.length, 7),
  };
  const at = chance.of([modifiedAt, new Date()]);
  return {
    name: `${how} ${key.slice('generations/'.length)}`,
    // v0.3.13's objects do not say what they are.
    reach: how === 'other' && !truth.isTold ? 'forges' : 'overwrites',
    damages: true,
    plant: (held) => void held.set(key, { data: contents[how], modifiedAt: at }),
  };
}

/** A true object in its place says that it was written at another time. */
function redate(chance: Chance, truth: Truth): Lie {
  const [key, { data, modifiedAt }] = chance.of([...truth.objects]);
  const trailer = trailerIn(data);
  const timeMs = chance.of([0, 8.64e15, Date.now() + 1000 * HOUR_MS, Date.now() - 300 * HOUR_MS]);
  const name = `times of ${key.slice('generations/'.length)}`;
  if (!trailer) return { name, reach: 'overwrites' };
  const told =
    trailer.kind === 'snapshot'
      ? { ...trailer, timeMs }
      : { ...trailer, commits: trailer.commits.map(({ offset }) => ({ offset, timeMs })) };
  const object = { data: Buffer.concat([withoutTrailer(data), encodeTrailer(told)]), modifiedAt };
  return { name, reach: 'overwrites', plant: (held) => void held.set(key, object) };
}

function changeList(
  name: string,
  reach: Lie['reach'],
  chance: Chance,
  change: (listed: readonly Listed[]) => readonly Listed[],
): Lie {
  const comes = sometimes(chance);
  return { name, reach, list: (listed) => (listed.length > 0 && comes() ? change(listed) : undefined) };
}

const LISTS: readonly LieMaker[] = [
  (chance) => changeList('empty list', 'hides', chance, () => []),
  (chance) => {
    const share = chance.next();
    return changeList('cut list', 'hides', chance, (all) => all.slice(0, Math.floor(all.length * share)));
  },
  (chance) => {
    const beforeMs = Date.now() - chance.below(60) * HOUR_MS;
    return changeList('stale list', 'hides', chance, (all) =>
      all.filter(({ modifiedAt }) => modifiedAt.getTime() < beforeMs),
    );
  },
  (chance) => changeList('holes in the list', 'hides', chance, (all) => all.filter(() => chance.comes(0.8))),
  (chance, truth) => {
    const [key] = chance.of([...truth.objects]);
    return changeList('the list lacks one', 'hides', chance, (all) => all.filter((one) => one.key !== key));
  },
  (chance) => changeList('shuffled list', 'garbles', chance, (all) => chance.shuffled(all)),
  (chance) =>
    changeList('doubled list', 'garbles', chance, (all) => [...all, ...all.filter(() => chance.comes(0.5))]),
  (chance) => {
    const [after, code] = [chance.below(20), chance.of(CODES)];
    const comes = sometimes(chance);
    return {
      name: `list fails after ${after}: ${code}`,
      reach: 'garbles',
      listEnds: () => (comes() ? { after, code } : undefined),
    };
  },
];

const DATES: readonly (readonly [
  string,
  (chance: Chance, listed: readonly Listed[]) => (one: Listed) => Date,
])[] = [
  ['the epoch', () => () => new Date(0)],
  ['the year 9999', () => () => new Date('9999-12-31T23:59:59.999Z')],
  ['no time', () => () => new Date(Number.NaN)],
  [
    'one time for all',
    (chance) => {
      const at = new Date(Date.now() - chance.below(100) * HOUR_MS);
      return () => at;
    },
  ],
  ['now', () => () => new Date()],
  [
    'shuffled times',
    (chance, listed) => {
      const times = chance.shuffled(listed.map(({ modifiedAt }) => modifiedAt));
      let next = 0;
      return () => times[next++ % times.length]!;
    },
  ],
  [
    'earlier',
    (chance) => {
      const byMs = chance.below(200) * HOUR_MS;
      return ({ modifiedAt }) => new Date(modifiedAt.getTime() - byMs);
    },
  ],
  [
    'some long ago',
    (chance) =>
      ({ modifiedAt }) =>
        chance.comes(0.5) ? new Date(1e12) : modifiedAt,
  ],
];

function redateList(chance: Chance): Lie {
  const [name, make] = chance.of(DATES);
  return changeList(name, 'dates', chance, (listed) => {
    const dateOf = make(chance, listed);
    return listed.map((one) => ({ ...one, modifiedAt: dateOf(one) }));
  });
}

const SIZES: readonly ((sizeBytes: number, chance: Chance) => number)[] = [
  () => 0,
  () => Number.MAX_SAFE_INTEGER,
  () => 4 * 2 ** 40,
  () => 3_000_000_000,
  (sizeBytes) => sizeBytes + 1,
  (sizeBytes) => Math.max(0, sizeBytes - 1),
  (sizeBytes) => sizeBytes * 1000,
  (_, chance) => chance.below(1 << 20),
];

function resizeList(chance: Chance): Lie {
  const sizeOf = chance.of(SIZES);
  const share = chance.of([1, 0.2]);
  return changeList(`sizes ${String(sizeOf)}`, 'garbles', chance, (all) =>
    all.map((one) => (chance.comes(share) ? { ...one, sizeBytes: sizeOf(one.sizeBytes, chance) } : one)),
  );
}

const BODIES: readonly (readonly [
  string,
  (chance: Chance, data: Buffer, others: () => Buffer) => BodyLie,
])[] = [
  [
    'cut, size told',
    (c, data) => ({
      data: data.subarray(0, c.below(data.length + 1)),
      sizeBytes: data.length,
      then: 'error',
    }),
  ],
  ['cut', (c, data) => ({ data: data.subarray(0, c.below(data.length + 1)) })],
  ['longer', (c, data) => ({ data: Buffer.concat([data, Buffer.alloc(1 + c.below(4000))]) })],
  ['flipped', (c, data) => ({ data: flipped(c, data) })],
  ['other', (_, __, others) => ({ data: others() })],
  ['endless', (_, data) => ({ data, then: 'endless' })],
  ['empty', () => ({ data: Buffer.alloc(0) })],
  ['error', (c, data) => ({ data: data.subarray(0, c.below(data.length + 1)), then: 'error' })],
  ['whole', (_, data) => ({ data, whole: true })],
];

function changeBody(chance: Chance, truth: Truth): Lie {
  const [name, change] = chance.of(BODIES);
  const comes = sometimes(chance);
  const only = chance.comes(0.5) ? chance.of([...truth.objects.keys()]) : undefined;
  return {
    name: `body ${name}`,
    // v0.3.13's objects do not say what they are.
    reach: name === 'other' && !truth.isTold ? 'forges' : 'garbles',
    body: (key, data, held) => {
      if ((only !== undefined && key !== only) || !comes()) return undefined;
      return change(chance, data, () => chance.of([...held.values()]).data);
    },
  };
}

function failCalls(chance: Chance): Lie {
  const operation = chance.of<Operation>(['list', 'get', 'get', 'stat', 'put', 'delete']);
  const code = chance.of(CODES);
  const comes = sometimes(chance);
  return {
    name: `${operation} fails: ${code}`,
    reach: 'garbles',
    fail: (called) => (called === operation && comes() ? code : undefined),
  };
}

const WRITES: readonly LieMaker[] = [
  (chance) => {
    const comes = sometimes(chance);
    return { name: 'put is lost', reach: 'hides', put: () => (comes() ? 'lost' : undefined) };
  },
  (chance) => {
    const comes = sometimes(chance);
    return { name: 'put fails, done', reach: 'garbles', put: () => (comes() ? 'done-and-fails' : undefined) };
  },
  (chance) => {
    const comes = sometimes(chance);
    const share = chance.next();
    return {
      name: 'deletes a part',
      reach: 'garbles',
      deletes: (count) => (comes() ? Math.floor(count * share) : undefined),
    };
  },
];

export const TELLINGS: readonly LieMaker[] = [
  overwrite,
  overwrite,
  redate,
  (chance, truth) => chance.of(LISTS)(chance, truth),
  (chance, truth) => chance.of(LISTS)(chance, truth),
  redateList,
  redateList,
  resizeList,
  changeBody,
  changeBody,
  failCalls,
  (chance, truth) => chance.of(WRITES)(chance, truth),
];
