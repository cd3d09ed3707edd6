/**
 * What docs/security.md says of a whole history that somebody else has stored in a replica: it is not told from a newer one of
 * our own, unless it is not encrypted where everything is. And what is there of ours stays, and can be asked for.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { newAgeKey } from '../support/age.ts';
import { SUBJECT, runLitestream } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { openSqlite, withSqlite } from '../support/sqlite.ts';

/** Has `replicate` store a database of one row in `replica`, encrypted by `age`. Its generation. */
async function store(rig: Rig, name: string, age: readonly string[]): Promise<string> {
  const path = join(rig.dir, name);
  const sqlite = await openSqlite({ path, pragmas: ['journal_mode=WAL'] });
  try {
    await sqlite.exec(`CREATE TABLE t (x); INSERT INTO t VALUES ('${name}')`);
    const replica = [`path: ${join(rig.dir, `${name}-replica`)}`, 'sync-interval: 20ms', ...age];
    const litestream = await rig.replicate({ path, replica });
    const config = await rig.config({ path, replica });
    const { code, stderr } = await runLitestream({
      binary: SUBJECT,
      args: ['sync', '-wait', '-config', config],
    });
    expect(code, stderr).toBe(0);
    expect((await litestream.stop()).code).toBe(0);
  } finally {
    await sqlite.kill();
  }
  return (await fs.readFile(join(rig.dir, `.${name}-litestream`, 'generation'), 'utf8')).trim();
}

/** A replica of ours with the history of a stranger's in it, which the store got later. The name of our generation. */
async function forge(rig: Rig, ours: readonly string[], theirs: readonly string[]): Promise<string> {
  const generation = await store(rig, 'ours', ours);
  const forged = await store(rig, 'forged', theirs);
  const generations = (name: string): string => join(rig.dir, `${name}-replica`, 'generations');
  await fs.cp(join(generations('forged'), forged), join(generations('ours'), forged), { recursive: true });
  return generation;
}

async function restored(rig: Rig, age: readonly string[], ...args: string[]): Promise<unknown> {
  const replica = [`path: ${join(rig.dir, 'ours-replica')}`, ...age];
  const config = await rig.config({ replica });
  const { code, path, stdout, stderr } = await rig.restore({ config, args });
  if (code !== 0) return stdout + stderr;
  const rows = await withSqlite({ path, readonly: true }, (sqlite) => sqlite.all('SELECT x FROM t'));
  return rows[0]?.['x'];
}

it('a newer one is taken for ours; ours is still there, by its generation', async () => {
  await withRig(async (rig) => {
    const generation = await forge(rig, [], []);
    expect(await restored(rig, [])).toBe('forged');
    expect(await restored(rig, [], '-generation', generation)).toBe('ours');
    const args = ['generations', `file://${join(rig.dir, 'ours-replica')}`];
    const { stdout } = await runLitestream({ binary: SUBJECT, args });
    expect(stdout.match(/\b[0-9a-f]{16}\b/g)).toHaveLength(2);
  });
});

/** Keys of a replica's `age` section: to replicate, and to restore. */
async function newKeys(): Promise<{ readonly writing: string[]; readonly reading: string[] }> {
  const { identity, recipient } = await newAgeKey();
  return {
    writing: ['age:', `  recipients: [${recipient}]`],
    reading: ['age:', `  identities: [${identity}]`],
  };
}

it('a newer one that is encrypted for the recipients is taken for ours, too', async () => {
  const { writing, reading } = await newKeys();
  await withRig(async (rig) => {
    await forge(rig, writing, writing);
    expect(await restored(rig, reading)).toBe('forged');
  });
});

it('one that is not encrypted is never taken for ours that is', async () => {
  const { writing, reading } = await newKeys();
  await withRig(async (rig) => {
    await forge(rig, writing, []);
    expect(await restored(rig, reading)).toBe('ours');
  });
});
