/** The loop of the fuzzer, in a thread of its own: an input that never ends can be ended from outside. */

import { parentPort, workerData } from 'node:worker_threads';
import { minimize } from './minimize.ts';
import { mutate } from './mutate.ts';
import { Random } from './random.ts';
import { type FuzzTarget, takeTraits } from './target.ts';

export interface LoopData {
  readonly seed: number;
  readonly seconds: number;
  readonly corpus: readonly Uint8Array[];
  /** The iteration, the number of bytes of its input, then the input: what is under way, for who ends this thread. */
  readonly shared: SharedArrayBuffer;
}

/** Bytes of the numbers that stand before the input in `shared`. */
export const SHARED_HEAD = 8;

export interface Failure {
  readonly iteration: number;
  /** Since the start. */
  readonly seconds: number;
  /** Made short. */
  readonly input: Uint8Array;
  readonly message: string;
}

export interface LoopResult {
  readonly executions: number;
  readonly seconds: number;
  /** Inputs that are mutated: those of the corpus, and those that were kept. */
  readonly pool: number;
  readonly slowestMs: number;
  readonly failures: readonly Failure[];
}

export const DEFAULT_MAX_BYTES = 4096;
/** Failures of different kinds, after which the loop ends. */
const MAX_FAILURES = 8;
/** Inputs that are kept because they were told something new, at most. */
const MAX_KEPT = 300;
/** The clock is looked at after so many inputs. */
const BATCH = 16;

const STACK_LINES = 8;

/** What two failures of one kind have in common: where it was thrown, and who had called that. */
export function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const places = [...(error.stack ?? '').matchAll(/\n\s+at .*/g)].slice(0, 3);
  return `${error.name}${places.join('')}`;
}

class Loop {
  readonly #target: FuzzTarget;
  readonly #data: LoopData;
  readonly #random: Random;
  readonly #head: Int32Array;
  readonly #input: Uint8Array;
  readonly #pool: Uint8Array[] = [];
  readonly #traits = new Set<string>();
  readonly #failures = new Map<string, Failure>();
  readonly #maxBytes: number;
  readonly #startedMs = performance.now();
  #iteration = 0;
  #seedCount = 0;
  #slowestMs = 0;

  constructor(target: FuzzTarget, data: LoopData) {
    this.#target = target;
    this.#data = data;
    this.#random = new Random(data.seed);
    this.#head = new Int32Array(data.shared, 0, 2);
    this.#input = new Uint8Array(data.shared, SHARED_HEAD);
    this.#maxBytes = target.maxBytes ?? DEFAULT_MAX_BYTES;
  }

  async run(): Promise<LoopResult> {
    const seeds = [...this.#data.corpus, ...(await this.#target.seeds())];
    for (const seed of seeds) await this.#tryOne(seed);
    this.#pool.push(...seeds.filter(({ byteLength }) => byteLength <= this.#maxBytes));
    this.#seedCount = this.#pool.length;
    const endMs = this.#startedMs + this.#data.seconds * 1000;
    while (performance.now() < endMs && this.#failures.size < MAX_FAILURES) {
      for (let i = 0; i < BATCH; i++) {
        const input = this.#newInput();
        const isNew = await this.#tryOne(input);
        if (isNew && this.#pool.length < this.#seedCount + MAX_KEPT) this.#pool.push(input);
      }
    }
    await this.#target.close?.();
    return {
      executions: this.#iteration,
      seconds: (performance.now() - this.#startedMs) / 1000,
      pool: this.#pool.length,
      slowestMs: this.#slowestMs,
      failures: [...this.#failures.values()],
    };
  }

  /** A beginning, or something that was kept, changed. */
  #newInput(): Uint8Array {
    const pool = this.#pool;
    const count = this.#random.oneIn(2) ? this.#seedCount : pool.length;
    const parent = pool[this.#random.below(count)] ?? new Uint8Array(0);
    const { dictionary = [], repair } = this.#target;
    const input = mutate(parent, this.#random, { dictionary, maxBytes: this.#maxBytes, pool });
    return repair && !this.#random.oneIn(5) ? repair(input, this.#random) : input;
  }

  /** Whether the target told something of the input that it told of none before. */
  async #tryOne(input: Uint8Array): Promise<boolean> {
    this.#iteration++;
    takeTraits();
    const startedMs = performance.now();
    const error = await this.#failureOf(input);
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - startedMs);
    if (error !== undefined) await this.#note(input, error);
    const before = this.#traits.size;
    for (const trait of takeTraits()) this.#traits.add(trait);
    return this.#traits.size > before;
  }

  /** What is thrown for an input, and undefined for nothing. */
  async #failureOf(input: Uint8Array): Promise<unknown> {
    this.#input.set(input.subarray(0, this.#input.byteLength));
    Atomics.store(this.#head, 1, input.byteLength);
    Atomics.add(this.#head, 0, 1);
    try {
      await this.#target.run(input);
      return undefined;
    } catch (error) {
      return error ?? new Error('nothing was thrown');
    }
  }

  async #note(input: Uint8Array, first: unknown): Promise<void> {
    // Most inputs are refused by an error, and each line of a stack costs more than the refusal: only here they are wanted.
    Error.stackTraceLimit = STACK_LINES;
    await this.#describe(input, (await this.#failureOf(input)) ?? first);
    Error.stackTraceLimit = 0;
  }

  async #describe(input: Uint8Array, error: unknown): Promise<void> {
    const kind = kindOf(error);
    if (this.#failures.has(kind)) return;
    const [iteration, seconds] = [this.#iteration, (performance.now() - this.#startedMs) / 1000];
    const fails = async (data: Uint8Array): Promise<boolean> => {
      const other = await this.#failureOf(data);
      return other !== undefined && kindOf(other) === kind;
    };
    const short = await minimize(input, fails);
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#failures.set(kind, { iteration, seconds, input: short, message });
  }
}

/** Runs in the thread that the bundle of a target is started in. */
export async function runLoop(target: FuzzTarget): Promise<void> {
  Error.stackTraceLimit = 0;
  parentPort?.postMessage(await new Loop(target, workerData as LoopData).run());
}
