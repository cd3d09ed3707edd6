/** Runs ours and v0.3.13 on the same arguments and makes what they print comparable. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import {
  runLitestream,
  startLitestream,
  type LaunchOptions,
  type LitestreamProcess,
} from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';

export interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const MAX_POKES = 10;
const POKE_AFTER_MS = 2000;

export type RunOptions = Omit<LaunchOptions, 'binary' | 'args'>;

/** Times of log lines and elapsed times differ in every run. */
function normalize(text: string): string {
  return text
    .replaceAll(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /gm, 'DATE TIME ')
    .replaceAll(/^time=\S+ /gm, 'time=TIME ')
    .replaceAll(/^\{"time":"[^"]+"/gm, '{"time":"TIME"')
    .replaceAll(/elapsed=\S+/g, 'elapsed=ELAPSED');
}

async function run(binary: 'ours' | 'oracle', args: readonly string[], options: RunOptions): Promise<Output> {
  const { code, stdout, stderr } = await runLitestream({ binary, args, ...options });
  return { code, stdout: normalize(stdout), stderr: normalize(stderr) };
}

export function runOurs(args: readonly string[], options: RunOptions = {}): Promise<Output> {
  return run('ours', args, options);
}

export function runOracle(args: readonly string[], options: RunOptions = {}): Promise<Output> {
  return run('oracle', args, options);
}

export interface Fixture {
  readonly dir: string;
  readonly config: string;
  readonly database: string;
}

/**
 * Waits until v0.3.13 has stored a segment in the replica `two` after its first `seen` lines. It sometimes leaves a
 * commit unstored until the next one comes, so `poke` brings one from time to time.
 */
async function stored(oracle: LitestreamProcess, seen: number, poke: () => Promise<void>): Promise<void> {
  const isNew = (line: string): boolean =>
    /wal segment written.*replica=two/.test(line) && oracle.lines.indexOf(line, seen) >= 0;
  for (let pokes = 0; pokes < MAX_POKES; pokes++) {
    if (await oracle.waitForLine(isNew, POKE_AFTER_MS).catch(() => undefined)) return;
    await poke();
  }
  await oracle.waitForLine(isNew);
}

/**
 * A folder with what v0.3.13 made: a database `a.db` with two replicas (`rep`, two generations, and `two`), and a
 * config that also names the missing `b.db` without replicas.
 */
export async function makeFixture(dir: string): Promise<Fixture> {
  const config = join(dir, 'litestream.yml');
  const database = join(dir, 'a.db');
  const lines = [
    'dbs:',
    '  - path: a.db',
    '    monitor-interval: 20ms',
    '    replicas:',
    `      - path: ${dir}/rep`,
    '        sync-interval: 20ms',
    '      - name: two',
    `        path: ${dir}/two`,
    '        sync-interval: 20ms',
    '  - path: b.db',
  ];
  await fs.writeFile(config, `${lines.join('\n')}\n`);
  await withSqlite({ path: database, pragmas: ['journal_mode=WAL'] }, async (sqlite) => {
    await sqlite.exec('CREATE TABLE t (x)');
    for (let generation = 0; generation < 2; generation++) {
      const oracle = startLitestream({ binary: 'oracle', args: ['replicate', '-config', config], cwd: dir });
      await oracle.waitForLine(/wal segment written.*replica=file/);
      await oracle.waitForLine(/wal segment written.*replica=two/);
      const seen = oracle.lines.length;
      await sqlite.exec('INSERT INTO t VALUES (randomblob(100000))');
      await stored(oracle, seen, () => sqlite.exec('INSERT INTO t VALUES (1)'));
      await oracle.stop();
      if (generation === 0) await fs.rm(join(dir, '.a.db-litestream'), { recursive: true });
    }
  });
  return { dir, config, database };
}
