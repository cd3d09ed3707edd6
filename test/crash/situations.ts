/** Groups of mishaps that have a name of their own and are not tried at each call. NAME is SITUATION/SEED. */

import { choose, type Group } from './case.ts';
import type { Life } from './life.ts';
import { World, type WorldOptions } from './world.ts';
import { generator } from '../support/workload.ts';

export interface Situation {
  readonly options?: WorldOptions;
  /** The mishap and everything that is checked. `random` is told by the case's name. */
  run(world: World, random: () => number): Promise<void>;
}

/** Seeds of a situation when all are wanted. */
const SEEDS = 25;

/** A group of which each situation is run once before one is run again. */
export function situationGroup(name: string, situations: Readonly<Record<string, Situation>>): Group {
  return {
    name,
    list: (sample, random) => {
      const names = Object.keys(situations);
      if (sample === undefined)
        return names.flatMap((each) => Array.from({ length: SEEDS }, (_, i) => `${each}/${i}`));
      const count = Math.max(sample, names.length);
      const order = choose(names, undefined, random);
      return Array.from(
        { length: count },
        (_, i) => `${order[i % order.length]}/${Math.floor(random() * 1e6)}`,
      );
    },
    run: async (path, seed) => {
      const situation = situations[path.split('/')[0] ?? ''];
      if (!situation) throw new Error(`${name}/${path}: no such case`);
      return await World.run(seed, situation.options ?? {}, async (world) => {
        world.struck = `(${path})`;
        await situation.run(world, generator(seed));
      });
    },
  };
}

/** An application with some commits, and a life that has stored them. */
export async function beginStored(world: World): Promise<Life> {
  await world.app.open(world.db);
  await world.app.commit(4);
  const life = await world.start();
  await world.expectClaim(life, 'before the mishap');
  return life;
}
