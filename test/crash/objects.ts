/**
 * Objects of a replica that are lost, cut, changed or exchanged. A restore either fails or gives an exact prefix of the
 * commits. NAME is KIND/SEED.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { beginStored, situationGroup, type Situation } from './situations.ts';
import type { World } from './world.ts';

async function objectsOf(world: World, kind: RegExp): Promise<string[]> {
  const names = await fs.readdir(world.replica, { recursive: true });
  return names
    .filter((name) => kind.test(name))
    .sort()
    .map((name) => join(world.replica, name));
}

/** A replica of several indexes, each of several segments. */
async function fill(world: World): Promise<void> {
  const life = await beginStored(world);
  for (let round = 0; round < 14; round++) {
    await world.app.commit(2);
    await world.expectClaim(life, 'before the damage');
  }
  await world.stop(life);
}

/** Damages some object of the kind, again and again on a whole replica; what is restored each time is a prefix. */
const damage =
  (
    kind: RegExp,
    act: (path: string, all: readonly string[], random: () => number) => Promise<void>,
  ): Situation['run'] =>
  async (world, random) => {
    await fill(world);
    const whole = join(world.dir, 'whole');
    await fs.cp(world.replica, whole, { recursive: true, preserveTimestamps: true });
    // Nothing was claimed of a replica that is damaged.
    world.claimed = 0;
    for (let round = 0; round < 6; round++) {
      const all = await objectsOf(world, kind);
      const path = all[Math.floor(random() * all.length)]!;
      await act(path, all, random);
      world.note(`round ${round}: ${path.slice(world.replica.length + 1)}`);
      await world.expectClaimed(`with a damaged object ${world.struck}`);
      await fs.rm(world.replica, { recursive: true });
      await fs.cp(whole, world.replica, { recursive: true, preserveTimestamps: true });
    }
    await world.expectStored('after the damage was mended');
  };

const SEGMENTS = /\.wal\.lz4$/;
const ANY = /\.lz4$/;

const SITUATIONS: Readonly<Record<string, Situation>> = {
  'lost-segment': { run: damage(SEGMENTS, (path) => fs.rm(path)) },
  'lost-object': { run: damage(ANY, (path) => fs.rm(path)) },
  cut: {
    run: damage(ANY, async (path, _, random) => {
      const { size } = await fs.stat(path);
      await fs.truncate(path, Math.floor(random() * size));
    }),
  },
  changed: {
    run: damage(ANY, async (path, _, random) => {
      const data = await fs.readFile(path);
      data[Math.floor(random() * data.byteLength)]! ^= 1 << Math.floor(random() * 8);
      await fs.writeFile(path, data);
    }),
  },
  exchanged: {
    run: damage(SEGMENTS, async (path, all, random) => {
      await fs.copyFile(all[Math.floor(random() * all.length)]!, path);
    }),
  },
  'lost-ends': {
    // The last segments of an index: the next one begins as if nothing were missing.
    run: damage(SEGMENTS, async (path, all) => {
      const index = /([0-9a-f]{8})_[0-9a-f]{8}\.wal/.exec(path)![1]!;
      const last = all.findLast((other) => other.includes(`/${index}_`))!;
      await fs.rm(last);
    }),
  },
};

export const OBJECTS = situationGroup('objects', SITUATIONS);
