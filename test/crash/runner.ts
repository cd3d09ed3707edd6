/** Runs cases, some at a time, and says of each that fails how to run it again. */

import { generator } from '../support/workload.ts';
import { choose, repeatLine, seedOf, type Group } from './case.ts';
import { GROUPS } from './groups.ts';

export interface Failure {
  readonly name: string;
  readonly message: string;
}

export interface Tally {
  readonly run: number;
  /** In how many of them something struck. */
  readonly struck: number;
  readonly failures: readonly Failure[];
}

export interface RunOptions {
  /** So many at a time. */
  readonly jobs?: number;
  /** No case begins after this, by performance.now(). */
  readonly untilMs?: number;
  /** Ends with the first failure. */
  readonly bail?: boolean;
}

/** Cases wait more than they work. */
export const JOBS = Number(process.env['CRASH_JOBS'] ?? 3);

const VERBOSE = process.env['CRASH_VERBOSE'] !== undefined;

/** The seed of a choice of cases: `CRASH_SEED`, else a fresh one. */
export const SEED = Number(process.env['CRASH_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

function groupOf(name: string): Group {
  const group = GROUPS.find((candidate) => name.startsWith(`${candidate.name}/`));
  if (!group) throw new Error(`${name}: no such case`);
  return group;
}

/** Runs one case by its name. */
export async function runCase(name: string): Promise<string> {
  const group = groupOf(name);
  return await group.run(name.slice(group.name.length + 1), seedOf(name));
}

/** Full names of cases of `groups`: `sample` of each, or all, by `seed`. */
export async function listCases(
  groups: readonly Group[],
  sample: number | undefined,
  seed: number = SEED,
): Promise<string[]> {
  const names: string[] = [];
  for (const group of groups) {
    const found = await group.list(sample, generator(seed ^ seedOf(group.name)));
    names.push(...found.map((name) => `${group.name}/${name}`));
  }
  return names;
}

/** Like listCases() of one group, of cases whose names begin with one of `parts` alone. */
export async function listWanted(group: Group, parts: readonly string[], sample: number): Promise<string[]> {
  const narrow = parts.filter((part) => part.length > group.name.length);
  if (narrow.length === 0) return await listCases([group], sample);
  const all = await listCases([group], undefined);
  const wanted = all.filter(
    (name) => /\/none\/1$/.test(name) || narrow.some((part) => name.startsWith(part)),
  );
  return choose(wanted, sample, generator(SEED));
}

/** Runs the cases in order; failures are printed as they come. Never rejects. */
export async function runCases(names: readonly string[], options: RunOptions = {}): Promise<Tally> {
  const { jobs = JOBS, untilMs = Infinity, bail = false } = options;
  const failures: Failure[] = [];
  let next = 0;
  let struck = 0;
  const work = async (): Promise<void> => {
    while (next < names.length && performance.now() < untilMs && !(bail && failures.length > 0)) {
      const name = names[next++]!;
      const began = performance.now();
      try {
        const what = await runCase(name);
        if (what !== '') struck++;
        if (VERBOSE) console.log(`${name} ${what}: held, ${Math.round(performance.now() - began)} ms`);
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        struck++;
        failures.push({ name, message });
        console.log(`${repeatLine(name)}\n    ${message.split('\n')[0]}`);
      }
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return { run: next, struck, failures };
}

/** Throws with everything that is known of the failures. */
export function expectNone({ run, failures }: Tally): void {
  if (failures.length === 0) return;
  const texts = failures.map(({ name, message }) => `${repeatLine(name)}\n${message}`);
  throw new Error(`${failures.length} of ${run} cases failed\n\n${texts.join('\n\n')}`);
}
