/** The release workflow, as far as it can be tried without GitHub: what it calls is there, and nobody else may publish. */

import { accessSync, constants, promises as fs, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { ROOT, run } from './opt-folder.ts';

interface Step {
  readonly uses?: string;
  readonly run?: string;
  readonly with?: Readonly<Record<string, unknown>>;
}

interface Job {
  readonly needs?: readonly string[];
  readonly permissions?: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}

interface Workflow {
  readonly on: unknown;
  readonly permissions: Readonly<Record<string, string>>;
  readonly jobs: Readonly<Record<string, Job>>;
}

const TEXT = readFileSync(join(ROOT, '.github/workflows/release.yml'), 'utf8');
const { on, permissions, jobs } = parse(TEXT) as Workflow;
const steps = Object.values(jobs).flatMap((job) => job.steps);
const scripts = steps.flatMap(({ run: script }) => script ?? []);

it('starts with a tag of a version', () => {
  expect(on).toEqual({ push: { tags: ['v*'] } });
});

it('calls scripts of package.json, programs and tests that are there', async () => {
  const description = await fs.readFile(join(ROOT, 'package.json'), 'utf8');
  const known = Object.keys((JSON.parse(description) as { scripts: object }).scripts);
  const all = scripts.join('\n');
  const called = [...all.matchAll(/npm run ([\w:-]+)/g)].map(([, name = '']) => name);
  expect(called).toEqual(['check', 'build:binary']);
  for (const name of called) expect(known).toContain(name);
  const programs = [...all.matchAll(/^(?:node )?((?:etc|\.ci)\/[\w./-]+)/gm)].map(([, path = '']) => path);
  expect(programs).toEqual(['.ci/package', 'etc/opt-litestream.mjs', 'etc/deb/build']);
  for (const path of programs)
    accessSync(join(ROOT, path), path.endsWith('.mjs') ? constants.R_OK : constants.X_OK);
  for (const [path] of all.matchAll(/test\/[\w/-]+\.test\.ts/g)) accessSync(join(ROOT, path));
});

it('has scripts that a shell reads, with nothing of GitHub put into them', async () => {
  for (const script of scripts) {
    expect(await run('/bin/sh', ['-n', '-c', script]), script).toEqual({ code: 0, stdout: '', stderr: '' });
    // A tag may be called anything: as a variable of the environment it stays a name.
    expect(script).not.toContain('${{');
  }
});

it('pins its actions by version', () => {
  const actions = steps.flatMap(({ uses }) => uses ?? []);
  expect(actions.length).toBeGreaterThan(0);
  for (const action of actions) expect(action).toMatch(/^actions\/[a-z-]+@v\d+\.\d+\.\d+$/);
});

it('publishes last, with provenance, where alone it may', () => {
  expect(permissions).toEqual({ contents: 'read' });
  const { publish, ...others } = jobs;
  expect(publish?.permissions).toEqual({ contents: 'write', 'id-token': 'write' });
  expect(publish?.needs).toEqual(Object.keys(others));
  for (const job of Object.values(others)) expect(job.permissions).toBeUndefined();
  const publishing = scripts.filter((script) => script.includes('npm publish'));
  expect(publishing).toEqual([expect.stringContaining(' --provenance ')]);
  expect(publish?.steps.map(({ run: script }) => script)).toContain(publishing[0]);
});

it('names all that a maintainer must add, here and in CONTRIBUTING.md', async () => {
  const [head = ''] = TEXT.split('\nname:');
  const guide = await fs.readFile(join(ROOT, 'CONTRIBUTING.md'), 'utf8');
  const secrets = [...TEXT.matchAll(/secrets\.(\w+)/g)].map(([, name = '']) => name);
  for (const name of [...secrets, '`repository`', '`release`', '`Maintainer:`']) {
    expect(head).toContain(name);
    expect(guide).toContain(name);
  }
});
