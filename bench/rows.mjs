/** The measurements: each gives rows of samples for ours and for v0.3.13, taken in turns. */

import Database from 'better-sqlite3';
import { existsSync, promises as fs } from 'node:fs';
import { join } from 'node:path';
import { install } from './install.mjs';
import { idle, latency, readOnly, replication } from './replicating.mjs';
import { database, snapshotReplica, walReplica } from './inputs.mjs';
import { PROGRAMS, interleaved, run, start, until, usageRows } from './measure.mjs';
import { remote } from './remote.mjs';

async function restoreRow(title, input, { work, runs }) {
  const output = join(work, 'restored');
  const samples = await interleaved(runs, async (name) => {
    const result = await run(PROGRAMS[name], ['restore', '-o', output, `file://${input}/replica`]);
    for (const file of await fs.readdir(work)) {
      if (file.startsWith('restored')) await fs.rm(join(work, file));
    }
    return result;
  });
  return usageRows(title, samples);
}

async function restore(context) {
  return [
    ...(await restoreRow('restore 500 MB from one snapshot', await snapshotReplica(500), context)),
    ...(await restoreRow('restore 64 MB, 400 WAL indexes of 100 pages', await walReplica(400, 100), context)),
    ...(await restoreRow(
      'restore 64 MB, 60 WAL indexes of 8,000 pages',
      await walReplica(60, 8000),
      context,
    )),
  ];
}

/** From the start of the process until the snapshot has its name in the replica. */
async function snapshot({ work, runs }) {
  const source = await database(500);
  const path = join(work, 'snapshot.db');
  await fs.copyFile(join(source, 'db'), path);
  // A WAL with one commit, as a database in use has.
  const db = new Database(path);
  db.exec('CREATE TABLE used (x); INSERT INTO used VALUES (1)');
  const samples = await interleaved(runs, async (name) => {
    const replica = join(work, 'snapshot-replica');
    const began = performance.now();
    const program = start(PROGRAMS[name], ['replicate', path, `file://${replica}`]);
    await until(() => hasSnapshot(replica), 'the first snapshot');
    const wallMs = performance.now() - began;
    const usage = program.sample();
    await program.stop();
    await fs.rm(replica, { recursive: true });
    await fs.rm(join(work, '.snapshot.db-litestream'), { recursive: true });
    return { ...usage, wallMs };
  });
  db.close();
  return usageRows('first snapshot of 500 MB', samples);
}

async function hasSnapshot(replica) {
  const generations = join(replica, 'generations');
  if (!existsSync(generations)) return false;
  const names = await fs.readdir(generations, { recursive: true });
  return names.some((name) => name.endsWith('.snapshot.lz4'));
}

async function startUp({ work, runs }) {
  const config = join(work, 'start.yml');
  await fs.writeFile(config, 'dbs:\n  - path: /var/lib/app/db\n    replicas:\n      - url: s3://bucket/db\n');
  const node = [process.execPath, '-e', '0'];
  const cases = {
    'start-up: version': ['version'],
    'start-up: databases': ['databases', '-config', config],
  };
  const rows = [];
  const count = runs * 4;
  const nothing = await interleaved(count, async () => (await run(node)).wallMs, ['ours']);
  rows.push({ title: 'start-up: `node -e 0`, for comparison', unit: 'ms', ...nothing });
  for (const [title, args] of Object.entries(cases)) {
    rows.push({
      title,
      unit: 'ms',
      ...(await interleaved(count, async (name) => (await run(PROGRAMS[name], args)).wallMs)),
    });
  }
  return rows;
}

/** By name as `--rows` takes them. */
export const ROWS = {
  restore,
  snapshot,
  lag: replication,
  idle,
  start: startUp,
  latency,
  'read-only': readOnly,
  remote,
  install,
};
