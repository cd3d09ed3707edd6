/**
 * Power losses: a life is recorded, and states that a loss at any of its syncs can leave are made of it, on the same machine
 * after its reboot and on another one. NAME is SCENARIO/MACHINE/SEED; each makes a few states of one recording.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application } from './application.ts';
import type { Group } from './case.ts';
import { SCENARIOS } from './calls.ts';
import { Disk, readRecording, writeMark, type Loss, type Mark } from './recording.ts';
import { shimEnvironment } from './shim.ts';
import { World, type LifeOptions, type WorldOptions } from './world.ts';
import { generator } from '../support/workload.ts';
import { pause } from '../support/process.ts';

type Machine = 'rebooted' | 'another';

const STATES = 2;
const LOSSES: readonly Loss[] = ['nothing', 'everything', 'some', 'some'];
/** FULL: what a commit has returned of, a power loss leaves. */
const PRAGMAS = ['synchronous=FULL'];

const logOf = (dir: string): string => join(dir, 'recording');

interface Recorded {
  readonly options: WorldOptions;
  prelude(world: World): Promise<void>;
  live(world: World, mark: () => void): Promise<void>;
}

/** Commits one by one while litestream runs, some of them confirmed. */
async function liveRecorded(world: World, mark: () => void, claims: boolean): Promise<void> {
  const life = await world.start({ log: logOf(world.dir) });
  await world.expectClaim(life, 'in the recording');
  mark();
  for (let round = 0; round < 8; round++) {
    await world.app.commit(3);
    mark();
    if (claims) await world.expectClaim(life, 'in the recording');
    else await pause(60);
    mark();
  }
  await life.kill();
}

const begin = async (world: World): Promise<void> => {
  await world.app.open(world.db, PRAGMAS);
  await world.app.commit(2);
};

const RECORDED: Readonly<Record<string, Recorded>> = {
  claimed: { options: {}, prelude: begin, live: (world, mark) => liveRecorded(world, mark, true) },
  // The replica stays behind: what the meta directory holds is needed.
  behind: {
    options: { replica: ['sync-interval: 1m'] },
    prelude: begin,
    live: (world, mark) => liveRecorded(world, mark, false),
  },
  retention: {
    options: SCENARIOS['retention']!.options,
    prelude: begin,
    live: (world, mark) => liveRecorded(world, mark, true),
  },
};

/** What the kernel tells after the loss. */
function machineOf(world: World, machine: Machine): { options: LifeOptions; modifiedAt: Date } {
  const uptime = join(world.dir, 'uptime');
  const bootId = join(world.dir, 'boot-id');
  writeFileSync(uptime, machine === 'rebooted' ? '20.00 30.00\n' : '9000000.00 9000000.00\n');
  writeFileSync(bootId, '11111111-2222-4333-8444-555555555555\n');
  const ageMs = machine === 'rebooted' ? 3600_000 : 5000;
  return { options: { uptime, bootId }, modifiedAt: new Date(Date.now() - ageMs) };
}

async function runCase(name: string, seed: number): Promise<string> {
  const [scenarioName = '', machine = ''] = name.split('/');
  const scenario = RECORDED[scenarioName];
  if (!scenario) throw new Error(`${name}: no such case`);
  const random = generator(seed);
  return await World.run(
    seed,
    scenario.options,
    async (world) => {
      const disk = await Disk.read(world.data);
      const log = logOf(world.dir);
      await scenario.prelude(world);
      const mark = (): void => writeMark(log, { committed: world.app.n, claimed: world.claimed });
      await scenario.live(world, mark);
      const recorded = world.app;
      await recorded.kill();
      world.options = { ...scenario.options, replica: scenario.options.replica?.filter(keepsPace) ?? [] };
      const entries = await readRecording(log);
      const first = entries.findIndex((entry) => entry.op === 'M');
      const syncs = entries.flatMap(({ op }, i) => (i > first && 'SRUT'.includes(op) ? [i] : []));
      const points = Array.from({ length: STATES }, () => syncs[Math.floor(random() * syncs.length)]!);
      let at = 0;
      let known: Mark = { committed: 0, claimed: 0 };
      for (const point of points.sort((a, b) => a - b)) {
        for (; at < point; at++) {
          const entry = entries[at]!;
          disk.apply(entry);
          if (entry.op === 'M') known = entry;
        }
        world.struck = `(call ${point} of ${entries.length}, ${machine})`;
        world.use(Application.after(recorded));
        await lose(world, disk, { known, random, machine: machine as Machine });
        await world.app.kill();
      }
    },
    (dir, library) => shimEnvironment({ library, folder: join(dir, 'data'), log: logOf(dir) }),
  );
}

const keepsPace = (line: string): boolean => !line.startsWith('sync-interval');

async function lose(
  world: World,
  disk: Disk,
  { known, random, machine }: { known: Mark; random: () => number; machine: Machine },
): Promise<void> {
  const { options, modifiedAt } = machineOf(world, machine);
  const losses = Array.from({ length: 3 }, () => LOSSES[Math.floor(random() * LOSSES.length)]!);
  const kept = (path: string): Loss => {
    if (path.startsWith(world.replica)) return losses[0]!;
    return path.startsWith(world.meta) ? losses[1]! : losses[2]!;
  };
  await disk.write({ random, kept }, modifiedAt);
  world.note(
    `the replica keeps ${losses[0]}, meta ${losses[1]}, database ${losses[2]}; ${JSON.stringify(known)}`,
  );
  const { app } = world;
  await app.open(world.db, PRAGMAS);
  const content = await app.look();
  if (content.n < known.committed || !app.isPrefix(content))
    throw new Error(`the suite is wrong: ${JSON.stringify(content)} is left of ${known.committed} commits`);
  world.claimed = known.claimed;
  await world.expectClaimed(`after the power loss ${world.struck}`);
  app.wentBackTo(content);
  await world.recover(options);
}

export const POWER: readonly Group[] = Object.keys(RECORDED).map((scenario) => ({
  name: `power/${scenario}`,
  list: (sample, random) => {
    const count = sample ?? 200;
    return Array.from({ length: count }, (_, i) => {
      const machine: Machine = i % 2 === 0 ? 'another' : 'rebooted';
      return `${machine}/${sample === undefined ? i : Math.floor(random() * 1e6)}`;
    });
  },
  run: (name, seed) => runCase(`${scenario}/${name}`, seed),
}));
