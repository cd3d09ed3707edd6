/** Cases in this process: the engine against a store that lies without end, at once and in every way. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { LitestreamError } from '../../src/base/errors.ts';
import { createLogger, type Logger } from '../../src/base/logger.ts';
import { enforceRetention, deleteExpired, surveyRetention } from '../../src/engine/retention.ts';
import { restore } from '../../src/engine/restore.ts';
import { readTimeline } from '../../src/engine/timeline.ts';
import { verifyReplica } from '../../src/engine/verify-alone.ts';
import { Chance } from './chance.ts';
import { HostileStore } from './hostile-store.ts';
import { Lies } from './lie.ts';
import { PLANTINGS } from './planting.ts';
import { TELLINGS } from './telling.ts';
import { historyOf, lostOf } from './window.ts';
import type { Truth } from './truth.ts';
import type { Stage } from './stage.ts';

const HOUR_MS = 3600_000;

/** Lies by a seed: of those who may only put, or of the store, or of both. */
export function chooseLies(chance: Chance, truth: Truth): Lies {
  const makers = chance.of([PLANTINGS, TELLINGS, [...PLANTINGS, ...TELLINGS]]);
  const count = chance.of([1, 1, 1, 2, 3]);
  return new Lies(Array.from({ length: count }, () => chance.of(makers)(chance, truth)));
}

export class Case {
  readonly chance: Chance;
  readonly truth: Truth;
  readonly lies: Lies;
  readonly store: HostileStore;
  readonly lines: string[] = [];
  readonly logger: Logger;
  readonly stage: Stage;
  readonly signal: AbortSignal;

  constructor(stage: Stage, seed: number, signal: AbortSignal) {
    this.stage = stage;
    this.signal = signal;
    this.chance = new Chance(seed);
    this.truth = this.chance.of(stage.truths);
    this.lies = chooseLies(this.chance, this.truth);
    const held = new Map(this.truth.objects);
    this.lies.plant(held, this.truth);
    this.store = new HostileStore(held, this.lies);
    this.logger = createLogger({ format: 'text', level: 'DEBUG', write: (line) => this.lines.push(line) });
  }

  get warnings(): string[] {
    return this.lines.filter((line) => /level=(WARN|ERROR)/.test(line));
  }

  /** An error that is one of ours; another one is a bug. */
  expectOurs(error: unknown): LitestreamError {
    if (error instanceof LitestreamError) return error;
    throw new Error(
      `E2 not an error of ours: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  }
}

/** What a restored database may be. @param commits those of the state that was asked for */
export function judgeRestored(
  lies: Lies,
  commits: { readonly asked: number; readonly found: number },
  warnings: readonly string[],
): void {
  if (lies.has('hides', 'overwrites', 'dates')) return;
  if (commits.found === commits.asked) return;
  const isTold = warnings.some((line) => /generations\/|generation [0-9a-f]{16}/.test(line));
  if (isTold && commits.found < commits.asked) return;
  throw new Error(
    `E3 ${commits.asked} commits were asked for, ${commits.found} restored without a word: ${warnings.join('\n')}`,
  );
}

async function restoreCase(test: Case): Promise<void> {
  const { chance, truth, store, stage, logger, signal, lies } = test;
  const moment = chance.comes(0.4) ? chance.of(truth.moments) : undefined;
  const bestEffort = chance.comes(0.2);
  const dir = stage.freePath();
  const outputPath = join(dir, 'db');
  const replicas = [{ name: 'hostile', store }];
  const request = { replicas, outputPath, parallelism: chance.of([1, 4, 8]), bestEffort, logger, signal };
  try {
    await restore({ ...request, timestamp: moment && new Date(moment.atMs) });
  } catch (error) {
    test.expectOurs(error);
    await expectNothingLeft(dir);
    return;
  }
  // Without trailers nothing tells up to where a snapshot needs WAL: that is what the order of times is for.
  if (lies.has('forges') || (!truth.isTold && lies.has('dates'))) {
    await fs.rm(outputPath, { force: true });
    return;
  }
  const { n } = await stage.application.inspect(outputPath).catch((error: unknown) => {
    throw new Error(`E3 ${(error as Error).message}`, { cause: error });
  });
  judgeRestored(lies, { asked: moment?.commits ?? truth.commits, found: n }, test.warnings);
}

async function expectNothingLeft(dir: string): Promise<void> {
  const left = await fs.readdir(dir).catch(() => []);
  if (left.length > 0) throw new Error(`E2 a restore that failed has left ${left.join(', ')}`);
}

async function timelineCase(test: Case): Promise<void> {
  const { store, signal } = test;
  await readTimeline(store, { signal }).catch((error: unknown) => void test.expectOurs(error));
}

async function verifyCase({ store, signal, stage, logger, lies, chance }: Case): Promise<void> {
  const restoreIn = chance.comes(0.5) ? stage.freePath() : undefined;
  if (restoreIn !== undefined) await fs.mkdir(restoreIn);
  const request = { name: 'hostile', store, parallelism: 4, restoreIn, signal, logger };
  const { result, message } = await verifyReplica(request);
  if (restoreIn !== undefined) await fs.rmdir(restoreIn);
  if (/\bat \w+.*:\d+:\d+|TypeError|RangeError|assertion failed|Invalid time/.test(message))
    throw new Error(`E2 verify says ${message}`);
  const damaged = lies.all.find(({ damages }) => damages === true);
  if (damaged && result === 'ok' && !lies.has('hides', 'dates', 'garbles'))
    throw new Error(`E3 verify says ok: ${message}`);
}

const WINDOWS = [2, 10, 24, 35, 45, 60].map((hours) => hours * HOUR_MS);

async function retentionCase(test: Case): Promise<void> {
  const { chance, truth, store, signal, logger } = test;
  const retentionMs = chance.of(WINDOWS);
  const now = Date.now();
  const before = trueKeys(test);
  const request = { store, retentionMs, now, signal };
  try {
    if (chance.comes(0.5)) {
      await deleteExpired(store, await surveyRetention({ ...request, currentGeneration: undefined }), {
        signal,
      });
    } else {
      const currentGeneration = truth.generations.at(-1)!;
      await enforceRetention({ ...request, currentGeneration, logger, clock: () => Date.now() });
    }
  } catch (error) {
    test.expectOurs(error);
  }
  if (!truth.isTold) return;
  const after = new Set([...before].filter((key) => !store.deleted.has(key)));
  const lost = lostOf(historyOf(truth.objects), now - retentionMs, before, after);
  if (lost.length > 0)
    throw new Error(
      `E4 a window of ${retentionMs / HOUR_MS} h has lost ${lost.join(', ')}; deleted: ${[...store.deleted].join(' ')}`,
    );
}

/** Keys of the true objects that are held as they were. */
function trueKeys({ store, truth }: Case): Set<string> {
  return new Set(
    [...truth.objects]
      .filter(([key, object]) => store.held.get(key)?.data === object.data)
      .map(([key]) => key),
  );
}

const OPERATIONS = {
  restore: restoreCase,
  timeline: timelineCase,
  verify: verifyCase,
  retention: retentionCase,
} as const;
const NAMES = ['restore', 'restore', 'restore', 'retention', 'retention', 'verify', 'timeline'] as const;

/** Runs one case; what it was. */
export async function engineCase(
  stage: Stage,
  seed: number,
  signal: AbortSignal,
): Promise<{ kind: string; met: number }> {
  const test = new Case(stage, seed, signal);
  const kind = test.chance.of(NAMES);
  stage.enter(`engine/${seed}`, `${kind} of ${test.truth.name}: ${test.lies.describe()}`);
  await OPERATIONS[kind](test);
  const [overrun] = test.store.overruns;
  if (overrun !== undefined) throw new Error(`E1 ${kind} keeps no bound: ${overrun}`);
  return { kind: `engine ${kind}`, met: test.lies.met.size };
}
