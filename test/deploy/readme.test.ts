/** README.md: its installation and its first steps, as they stand there, in an empty folder. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findNodeSqlite } from '../support/node-sqlite.ts';
import { until } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';
import { BUILD_TIMEOUT_MS, ROOT, type Ran, run } from './opt-folder.ts';

const README = readFileSync(join(ROOT, 'README.md'), 'utf8');
const { path: node, missing } = findNodeSqlite();

/** The scripts of a section. */
function scripts(heading: string): string[] {
  const section = README.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? '';
  return [...section.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, script = '']) => script);
}

const [inCheckout = '', inProject = ''] = scripts('Install');
const [make = '', replicate = '', restore = '', withS3 = ''] = scripts('First steps');

describe.skipIf(missing !== undefined)(`README.md${missing === undefined ? '' : `: ${missing}`}`, () => {
  let dir: string;

  /** Of a user with a Node.js of today and default settings, far from any registry. */
  const environment = (): NodeJS.ProcessEnv => ({
    PATH: `${dirname(node ?? '')}:${process.env['PATH'] ?? ''}`,
    HOME: join(dir, 'home'),
    npm_config_offline: 'true',
    npm_config_update_notifier: 'false',
  });

  const shell = (script: string, cwd: string): Promise<Ran> =>
    run('/bin/sh', ['-ec', script], { cwd, env: environment() });

  beforeAll(async () => {
    dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'litestream-readme-')));
    await fs.mkdir(join(dir, 'home'));
    await fs.mkdir(join(dir, 'project'));
  });

  afterAll(() => fs.rm(dir, { recursive: true, force: true }));

  it(
    'installs what is packed, without a warning',
    async () => {
      // The build is there, and other tests use it.
      expect(inCheckout).toContain('npm ci && npm pack\n');
      const packed = await shell(
        `npm pack --ignore-scripts --pack-destination ${join(dir, 'project')}`,
        ROOT,
      );
      expect(packed.code, packed.stderr).toBe(0);
      const { version } = JSON.parse(await fs.readFile(join(ROOT, 'package.json'), 'utf8')) as {
        version: string;
      };
      const installed = await shell(inProject, join(dir, 'project'));
      expect(installed.code, installed.stderr).toBe(0);
      expect(installed.stdout + installed.stderr).not.toMatch(/warn|deprecated|blocked/i);
      expect(installed.stdout).toContain(`\nv${version}\n`);
    },
    BUILD_TIMEOUT_MS,
  );

  it('loses a database and gets it back', async () => {
    const project = join(dir, 'project');
    expect((await shell(make, project)).code).toBe(0);
    const child = spawn('/bin/sh', ['-c', replicate], {
      cwd: project,
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const closed = once(child, 'close');
    let log = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (log += chunk.toString()));
    }
    try {
      await until(() => log.includes('snapshot written'), { describe: () => log });
    } finally {
      // Ctrl-C.
      process.kill(-(child.pid ?? 0), 'SIGINT');
      await closed;
    }
    const [remove = '', ...rest] = restore.split('\n');
    expect((await shell(remove, project)).code).toBe(0);
    expect((await fs.readdir(project)).filter((name) => name.startsWith('app.db'))).toEqual([]);
    const restored = await shell(rest.join('\n'), project);
    expect(restored.code, restored.stderr).toBe(0);
    const path = join(project, 'app.db');
    const rows = await withSqlite({ path, readonly: true }, (sqlite) => sqlite.all('SELECT x FROM t'));
    expect(rows).toEqual([{ x: 42 }]);
  });

  it('does the same with S3, by the same commands', () => {
    const toS3 = (script: string): string => script.replaceAll('"file://$PWD/backup"', 's3://my-backups/app');
    expect(withS3).toContain(toS3(replicate));
    expect(withS3).toContain(toS3(restore.split('\n')[1] ?? 'nothing'));
  });
});
