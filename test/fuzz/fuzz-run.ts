/** Runs the fuzzer on one target: in a thread that is ended when an input takes too long or too much memory. */

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type Plugin, build } from 'esbuild';
import { type Failure, type LoopData, type LoopResult, SHARED_HEAD } from './fuzz-loop.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
/** In the repository, so that packages are found from there; nothing of it is kept. */
const BUNDLES = join(HERE, '../../.cache/fuzz');
/** Far more than any input needs, also on a machine that is busy. */
const HANG_MS = 30_000;
const LOOK_MS = 250;
const MAX_HEAP_MB = 512;
/** As large as that of a main thread: in a larger one recursion without a bound would not show. */
const STACK_MB = 1;
/** No target has larger inputs in its corpus. */
const MAX_INPUT_BYTES = 1 << 20;

export function targetNames(): string[] {
  return readdirSync(join(HERE, 'targets'))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.slice(0, -'.ts'.length));
}

/** The inputs that are kept in the repository: name and content. */
export function corpusOf(name: string): { readonly file: string; readonly data: Uint8Array }[] {
  const folder = join(HERE, 'corpus', name);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((file) => ({ file, data: readFileSync(join(folder, file)) }));
}

/** Modules find files by their own place, which is that of their source. */
const ownPlaces: Plugin = {
  name: 'own-places',
  setup(esbuild) {
    esbuild.onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => ({
      loader: 'ts',
      contents: readFileSync(path, 'utf8').replaceAll(
        'import.meta.url',
        JSON.stringify(pathToFileURL(path).href),
      ),
    }));
  },
};

/** One script of the target and all of our code that it uses: a thread of Node.js 20 reads no TypeScript. */
async function bundle(name: string, outfile: string): Promise<void> {
  await build({
    stdin: {
      contents:
        `import { target } from './targets/${name}.ts';\nimport { runLoop } from './fuzz-loop.ts';\n` +
        'await runLoop(target);\n',
      resolveDir: HERE,
    },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    sourcemap: 'inline',
    plugins: [ownPlaces],
    outfile,
    logLevel: 'warning',
  });
}

export type RunOptions = Pick<LoopData, 'seed' | 'seconds'>;

/** @returns what the loop says; what ended it from outside is a failure, too */
export async function fuzz(name: string, options: RunOptions): Promise<LoopResult> {
  mkdirSync(BUNDLES, { recursive: true });
  const outfile = join(BUNDLES, `${name}-${process.pid}.mjs`);
  await bundle(name, outfile);
  try {
    return await watch(outfile, { ...options, corpus: corpusOf(name).map(({ data }) => data) });
  } finally {
    rmSync(outfile, { force: true });
  }
}

function watch(outfile: string, options: Omit<LoopData, 'shared'>): Promise<LoopResult> {
  const shared = new SharedArrayBuffer(SHARED_HEAD + MAX_INPUT_BYTES);
  const head = new Int32Array(shared, 0, 2);
  const started = performance.now();
  const worker = new Worker(outfile, {
    execArgv: ['--enable-source-maps'],
    workerData: { ...options, shared } satisfies LoopData,
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB, stackSizeMb: STACK_MB },
  });
  /** What the loop could not say itself. */
  const failed = (message: string): LoopResult => {
    const input = Buffer.from(shared, SHARED_HEAD, Atomics.load(head, 1));
    const seconds = (performance.now() - started) / 1000;
    const failure: Failure = { iteration: Atomics.load(head, 0), seconds, input, message };
    const nothing = { pool: 0, slowestMs: 0 };
    return { ...nothing, executions: failure.iteration, seconds, failures: [failure] };
  };
  return new Promise((resolve) => {
    let [lastSeen, lastMs] = [0, performance.now()];
    const looking = setInterval(() => {
      const iteration = Atomics.load(head, 0);
      if (iteration !== lastSeen) [lastSeen, lastMs] = [iteration, performance.now()];
      if (performance.now() - lastMs > HANG_MS) end(failed(`the input took more than ${HANG_MS} ms`));
    }, LOOK_MS);
    let ended = false;
    const end = (result: LoopResult): void => {
      if (ended) return;
      ended = true;
      clearInterval(looking);
      void worker.terminate().then(() => resolve(result));
    };
    worker.on('message', (result: LoopResult) => end(result));
    worker.on('error', (error) => end(failed(error.stack ?? error.message)));
    worker.on('exit', (code) => end(failed(`the thread ended with code ${code}`)));
  });
}

/** What is printed of a failure, with the line that repeats it. */
export function describeFailure(name: string, seed: number, failure: Failure): string {
  const { iteration, seconds, input, message } = failure;
  const base64 = Buffer.from(input).toString('base64');
  return [
    `target ${name}, seed ${seed}, iteration ${iteration}, after ${seconds.toFixed(1)} s: ${message}`,
    `input, ${input.byteLength} bytes in base64: ${base64}`,
    `again: FUZZ_TARGET=${name} FUZZ_INPUT=${base64} npm run test:fuzz`,
  ].join('\n');
}
