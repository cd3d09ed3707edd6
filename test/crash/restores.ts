/**
 * Faults at the n-th file call of a restore. Exit code 0 means that the whole database is in place; whatever happens, what
 * stands at its path is whole, the old one or the new one. NAME is KIND/FAULT/N.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pause, until } from '../support/process.ts';
import { Application, type Content } from './application.ts';
import type { Group } from './case.ts';
import { FAULTS } from './calls.ts';
import { NAMES, OPENS, READS, SYNCS, WRITES, type Fault } from './shim.ts';
import { World } from './world.ts';

type Kind = 'plain' | 'force' | 'force-open';

const STOPPED_MS = 200;
const RESTORE_FAULTS = Object.keys(FAULTS).filter(
  (name) => !/^(none|stop|stop-read|.*-object|segments-fail|.*-generation)$/.test(name),
);

/** A replica of a few indexes, and a database that is ahead of it and that nobody uses. */
async function prepare(world: World): Promise<void> {
  await world.app.open(world.db);
  await world.app.commit(4);
  const life = await world.start();
  for (let round = 0; round < 3; round++) {
    await world.app.commit(8);
    await world.expectClaim(life, 'before the restore');
  }
  await world.stop(life);
  await world.app.commit(3);
  await world.app.close();
}

const place = (kind: Kind, world: World): readonly string[] =>
  kind === 'plain' ? ['-o', join(world.data, 'out')] : ['-force', '-o', world.db];

async function runPlain(world: World, fault: Fault): Promise<void> {
  const out = join(world.data, 'out');
  const { code, stdout, stderr, control } = await world.restoreWith(fault, place('plain', world));
  world.struck = control.what && `(${control.what})`;
  if (code === 0 && !existsSync(out))
    throw new Error(`I1: restore exits 0 without a database ${stdout}${stderr}`);
  if (existsSync(out)) expectNew(await world.app.inspect(out), world.claimed);
  const again = await world.restoreWith({ ...fault, at: 0 }, place('plain', world));
  if (again.code !== 0) throw new Error(`I5: restore exits ${again.code} after the faults: ${again.stderr}`);
  expectNew(await world.app.inspect(out), world.claimed);
}

function expectNew({ n }: Content, claimed: number): void {
  if (n !== claimed) throw new Error(`I1: ${claimed} commits are stored, ${n} were restored`);
}

async function runForce(world: World, fault: Fault): Promise<void> {
  const { code, control, stderr } = await world.restoreWith(fault, place('force', world));
  world.struck = control.what && `(${control.what})`;
  await expectWhole(world, code === 0);
  if (code !== 0) {
    const again = await world.restoreWith({ ...fault, at: 0 }, place('force', world));
    if (again.code !== 0)
      throw new Error(`I5: restore exits ${again.code} after the faults: ${again.stderr}${stderr}`);
    await expectWhole(world, true);
  }
  await goOn(world);
}

/** The database is the old one or, for certain if `replaced`, the new one. */
async function expectWhole(world: World, replaced: boolean): Promise<void> {
  if (!existsSync(world.db)) throw new Error('I4: there is no database any more');
  const content = await world.app.inspect(world.db, false);
  const allowed = replaced ? [world.claimed] : [world.claimed, world.app.n];
  if (!allowed.includes(content.n))
    throw new Error(`I1: the database has ${content.n} commits, not ${allowed.join(' or ')}`);
}

/** The application goes on with the database that is there. */
async function goOn(world: World): Promise<void> {
  world.app.wentBackTo(await world.app.inspect(world.db, false));
  await world.app.open(world.db);
  await world.recover();
}

/** An application opens the database, and commits, while the restore stands at its n-th call. */
async function runForceOpen(world: World, fault: Fault): Promise<void> {
  const other = Application.after(world.app);
  world.use(other);
  const restoring = world.restoreWith(fault, place('force', world));
  const control = await until(() => world.lastControl);
  const state = { ended: false };
  const watched = restoring.finally(() => (state.ended = true));
  await until(() => control.hits > 0 || state.ended, { timeoutMs: 60_000 });
  const using = other.open(world.db).then(() => other.commit(1));
  await Promise.race([using, pause(STOPPED_MS)]).catch(() => undefined);
  if (!state.ended) process.kill(control.pid, 'SIGCONT');
  const { code } = await watched;
  world.struck = control.what && `(${control.what})`;
  // It may be refused; what it has committed may be in the file that was set aside.
  const refusal = await using.then(
    () => '',
    (error: unknown) => String(error),
  );
  if (refusal !== '') world.note(refusal);
  await other.close().catch(() => undefined);
  const content = await other.inspect(world.db, false).catch((error: unknown) => {
    throw new Error(`I4 (restore exited ${code}): ${(error as Error).message}`, { cause: error });
  });
  world.note(`restore exited ${code}, the database has ${content.n} commits`);
}

const RUNS: Readonly<Record<Kind, (world: World, fault: Fault) => Promise<void>>> = {
  plain: runPlain,
  force: runForce,
  'force-open': runForceOpen,
};

async function runCase(kind: Kind, name: string, seed: number): Promise<string> {
  const [faultName = '', number = ''] = name.split('/');
  const fault = FAULTS[faultName];
  if (!fault || !(Number(number) >= 1)) throw new Error(`${name}: no such case`);
  return await World.run(seed, {}, async (world) => {
    await prepare(world);
    await RUNS[kind](world, { ...fault, at: Number(number) });
  });
}

/** How many calls a restore makes. */
async function countCalls(kind: Kind): Promise<(classes: number) => number> {
  let counts: (readonly [number, number])[] = [];
  await World.run(1, {}, async (world) => {
    await prepare(world);
    const { control } = await world.restoreWith({ action: 'fail', classes: 0, at: 0 }, place(kind, world));
    counts = [WRITES, SYNCS, NAMES, READS, OPENS].map((bit) => [bit, control.count(bit)] as const);
  });
  return (classes) => counts.reduce((sum, [bit, count]) => sum + (classes & bit ? count : 0), 0);
}

export const RESTORES: readonly Group[] = (['plain', 'force', 'force-open'] as const).map((kind) => ({
  name: `restore/${kind}`,
  list: async (sample, random) => {
    const counted = await countCalls(kind);
    const faults = kind === 'force-open' ? ['stop'] : RESTORE_FAULTS;
    const places = faults.map((fault) => ({ fault, count: counted(FAULTS[fault]!.classes) }));
    if (sample === undefined) {
      return places.flatMap(({ fault, count }) =>
        Array.from({ length: count }, (_, i) => `${fault}/${i + 1}`),
      );
    }
    return Array.from({ length: sample }, (_, i) => {
      const { fault, count } = places[i % places.length]!;
      return `${fault}/${1 + Math.floor(random() * count)}`;
    });
  },
  run: (name, seed) => runCase(kind, name, seed),
}));
