/**
 * The suite proves itself: each of the bugs in mutations.ts is planted in a copy of the source, and must be found there;
 * the case that finds it must hold without it. `CRASH_MUTATIONS=all npm run test:crash -- planted`, or names with commas.
 */

import { execFile, spawn } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type BuildOptions, build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { runCase } from '../runner.ts';
import { MUTATIONS, type Mutation } from './mutations.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const { OPTIONS } = (await import(join(ROOT, 'bundle-options.mjs'))) as { OPTIONS: BuildOptions };
const wanted = process.env['CRASH_MUTATIONS'] ?? '';
const chosen = MUTATIONS.filter(({ name }) => wanted === 'all' || wanted.split(',').includes(name));

/** A copy of the source with the bug, built as bundle.mjs builds it; the path of its command. */
async function plant(mutation: Mutation, dir: string): Promise<string> {
  await fs.cp(join(ROOT, 'src'), join(dir, 'src'), { recursive: true });
  await fs.cp(join(ROOT, 'bin'), join(dir, 'bin'), { recursive: true });
  for (const each of ['package.json', 'tsconfig.json']) await fs.copyFile(join(ROOT, each), join(dir, each));
  await fs.symlink(await fs.realpath(join(ROOT, 'node_modules')), join(dir, 'node_modules'));
  for (const { file, from, to } of [mutation, ...(mutation.also ?? [])]) {
    const path = join(dir, 'src', file);
    const text = await fs.readFile(path, 'utf8');
    if (text.split(from).length !== 2)
      throw new Error(`${mutation.name}: what it changes stands not once in src/${file}`);
    await fs.writeFile(
      path,
      text.replace(from, () => to),
    );
  }
  await build({
    ...OPTIONS,
    absWorkingDir: dir,
    entryPoints: ['src/cmd/main.ts', 'src/engine/checkpoint-worker.ts', 'src/sqlite/integrity-program.ts'],
    outdir: 'dist/cli',
    entryNames: '[name]',
    logLevel: 'error',
  });
  const binary = join(dir, 'bin', 'litestream');
  await promisify(execFile)(process.execPath, [binary, 'version']);
  return binary;
}

/** Runs the quick cases of the mutation's groups until one fails; its name, undefined when all of them hold. */
async function hunt(binary: string, { groups }: Mutation): Promise<string | undefined> {
  const env = { ...process.env, LITESTREAM_BINARY: binary, CRASH_GROUPS: groups.join(','), CRASH_BAIL: '1' };
  const args = [
    join(ROOT, 'node_modules/vitest/vitest.mjs'),
    'run',
    '--config',
    'vitest.crash.config.ts',
    'quick',
  ];
  const child = spawn(process.execPath, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const code = await new Promise((resolve) => child.on('close', resolve));
  if (code === 0) return undefined;
  const found = /CRASH_CASE='([^']+)'/.exec(output)?.[1];
  if (found === undefined) throw new Error(`the suite did not run:\n${output.slice(-2000)}`);
  return found;
}

describe.skipIf(chosen.length === 0)('bugs that are planted', () => {
  for (const mutation of chosen) {
    it(`${mutation.name} is found`, async () => {
      const dir = await fs.mkdtemp(join(tmpdir(), 'litestream-planted-'));
      try {
        const binary = await plant(mutation, dir);
        const began = performance.now();
        const found = await hunt(binary, mutation);
        const seconds = Math.round((performance.now() - began) / 1000);
        console.log(
          `${mutation.name}: ${found === undefined ? 'not found' : `found by ${found}`}, ${seconds} s`,
        );
        expect(found, `${mutation.name} was not found in ${seconds} s`).toBeDefined();
        // It is the bug that was found.
        await runCase(found!);
      } finally {
        await fs.rm(dir, { recursive: true, force: true });
      }
    });
  }
});
