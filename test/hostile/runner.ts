/** Runs cases of several kinds side by side until a time, counts, and says of each that fails how to run it again. */

import { createHash } from 'node:crypto';
import { commandCase } from './command-cases.ts';
import { engineCase } from './engine-cases.ts';
import { replicateCase } from './replicate-cases.ts';
import type { Stage } from './stage.ts';

export interface Met {
  /** For the tally: `engine restore`, `command verify`. */
  readonly kind: string;
  /** How many lies were met. */
  readonly met: number;
}

export type CaseRunner = (stage: Stage, seed: number, signal: AbortSignal) => Promise<Met>;

export interface Kind {
  readonly run: CaseRunner;
  /** At a time. */
  readonly jobs: number;
  /** Longer than anything that ends may take. */
  readonly limitMs: number;
}

export const KINDS: Readonly<Record<string, Kind>> = {
  engine: { run: engineCase, jobs: 12, limitMs: 240_000 },
  command: { run: commandCase, jobs: 3, limitMs: 400_000 },
  replicate: { run: replicateCase, jobs: 2, limitMs: 600_000 },
};

export interface Tally {
  readonly counts: Map<string, { cases: number; met: number }>;
  readonly failures: { readonly name: string; readonly message: string }[];
}

const VERBOSE = process.env['HOSTILE_VERBOSE'] !== undefined;

/** The line that runs a case again. */
export function repeatLine(name: string): string {
  return `HOSTILE_CASE=${name} npm run test:hostile`;
}

/** The seed of the n-th case of a kind. */
export function seedOf(kind: string, seed: number, n: number): number {
  return createHash('sha256').update(`${seed}/${kind}/${n}`).digest().readUInt32LE() >>> 1;
}

async function bounded(kind: Kind, stage: Stage, seed: number): Promise<Met> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      controller.abort();
      reject(new Error(`E1 it does not end in ${kind.limitMs} ms`));
    }, kind.limitMs);
  });
  return await Promise.race([kind.run(stage, seed, controller.signal), late]).finally(() =>
    clearTimeout(timer),
  );
}

/** Runs one case by its name. Rejects when it fails. */
export async function runCase(stage: Stage, name: string): Promise<Met> {
  const [kindName = '', seed = ''] = name.split('/');
  const kind = KINDS[kindName];
  if (!kind || !/^\d+$/.test(seed)) throw new Error(`${name}: no such case`);
  return await bounded(kind, stage, Number(seed));
}

/** @param untilMs no case begins after this, by performance.now() */
export async function runUntil(
  stage: Stage,
  options: {
    readonly seed: number;
    readonly untilMs: number;
    readonly kinds: readonly string[];
    readonly bail: boolean;
  },
): Promise<Tally> {
  const tally: Tally = { counts: new Map(), failures: [] };
  const work = async (kindName: string, next: () => number): Promise<void> => {
    while (performance.now() < options.untilMs && !(options.bail && tally.failures.length > 0)) {
      const name = `${kindName}/${seedOf(kindName, options.seed, next())}`;
      try {
        const beganMs = performance.now();
        const { kind, met } = await runCase(stage, name);
        if (VERBOSE) console.log(`${name} held, ${Math.round(performance.now() - beganMs)} ms`);
        const count = tally.counts.get(kind) ?? { cases: 0, met: 0 };
        tally.counts.set(kind, { cases: count.cases + 1, met: count.met + met });
      } catch (error) {
        const what = stage.whatOf(name);
        const message = `${error instanceof Error ? error.message : String(error)}\n    (${what})`;
        tally.failures.push({ name, message });
        console.log(`${repeatLine(name)}\n    ${message.split('\n')[0] ?? ''}\n    ${what}`);
      } finally {
        stage.leave(name);
      }
    }
  };
  const jobs = options.kinds.flatMap((kindName) => {
    let n = 0;
    const next = (): number => n++;
    return Array.from({ length: KINDS[kindName]?.jobs ?? 0 }, () => work(kindName, next));
  });
  await Promise.all(jobs);
  return tally;
}

export function describe({ counts, failures }: Tally): string {
  const lines = [...counts]
    .sort()
    .map(([kind, { cases, met }]) => `${kind}: ${cases} cases, ${met} lies met`);
  return [...lines, `${failures.length} failed`].join('\n');
}
