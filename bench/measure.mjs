/**
 * Runs the program under test and measures it from outside: wall clock, CPU time and peak memory out of /proc (Linux
 * only), read each few milliseconds while it runs.
 */

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SAMPLE_MS = 10;
/** Of /proc/PID/stat: fixed at 100 on every Linux platform that Node supports. */
const TICKS_PER_SECOND = 100;

/** Another checkout of this program, built, in the place of v0.3.13: whether a change made something slower. */
const peer = process.env['BENCH_PEER'];

const oracle = join(
  dirname(require.resolve(`@flydotio/litestream-${process.platform}-${process.arch}/litestream`)),
  'litestream',
);

/** The Node.js that ours runs on, by default the one that runs this: with another one, another SQLite driver. */
const node = process.env['BENCH_NODE'] ?? process.execPath;

/** The two programs: the words that start each. */
export const PROGRAMS = {
  ours: [node, join(ROOT, 'bin', 'litestream')],
  oracle: peer === undefined ? [oracle] : [process.execPath, join(peer, 'bin', 'litestream')],
};

/** What the second one is called. */
export const PEER = peer === undefined ? 'v0.3.13' : 'peer';

/** CPU time and peak memory of a live process so far, or undefined when it is gone. */
export function usage(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const cpuMs = ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_SECOND;
    // A zombie has no memory lines any more.
    const peak = /VmHWM:\s+(\d+)/.exec(status);
    return peak === null ? undefined : { cpuMs, peakBytes: Number(peak[1]) * 1024 };
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return undefined;
    throw error;
  }
}

/** A running program, sampled until it ends. */
export function start(command, args = []) {
  const started = performance.now();
  const child = spawn(command[0], [...command.slice(1), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => (output += text));
  }
  let last = { cpuMs: 0, peakBytes: 0 };
  const sample = () => (last = usage(child.pid) ?? last);
  const sampler = setInterval(sample, SAMPLE_MS);
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearInterval(sampler);
      resolve({ code, signal, wallMs: performance.now() - started, ...last, output });
    });
  });
  return {
    pid: child.pid,
    sample,
    ended,
    output: () => output,
    /** Ends it as its user would and waits. */
    stop: async () => {
      child.kill('SIGTERM');
      return await ended;
    },
  };
}

/** Runs a command to its end. Rejects unless it exits 0. */
export async function run(command, args = []) {
  const result = await start(command, args).ended;
  if (result.code !== 0) throw new Error(`${command.join(' ')} ${args.join(' ')} failed:\n${result.output}`);
  return result;
}

/** Polls each millisecond until `probe` is true. */
export async function until(probe, what, timeoutMs = 300_000) {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`waited too long for ${what}`);
    await sleep(1);
  }
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The value below which `share` of the numbers lie. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

export function median(values) {
  return quantile(values, 0.5);
}

/** Takes `runs` samples of each program in turns, after one of each that warms the caches and is not counted. */
export async function interleaved(runs, sample, programs = Object.keys(PROGRAMS)) {
  const samples = { ours: [], oracle: [] };
  for (let i = -1; i < runs; i++) {
    for (const name of programs) {
      const result = await sample(name);
      if (i >= 0) samples[name].push(result);
    }
  }
  return samples;
}

/** Wall, CPU and peak memory as three rows. */
export function usageRows(title, samples) {
  const pick = (read) => ({ ours: samples.ours.map(read), oracle: samples.oracle.map(read) });
  return [
    { title: `${title}: wall`, unit: 'ms', ...pick((s) => s.wallMs) },
    { title: `${title}: CPU`, unit: 'ms', ...pick((s) => s.cpuMs) },
    { title: `${title}: peak memory`, unit: 'MB', ...pick((s) => s.peakBytes / 2 ** 20) },
  ];
}
