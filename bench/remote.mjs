/** Measurements over a link with a round trip of 100 ms, to the S3 server of the tests, with default settings. */

import { build } from 'esbuild';
import { fork } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { database, segmentReplica, snapshotReplica, walReplica } from './inputs.mjs';
import { PROGRAMS, interleaved, run, start, usageRows } from './measure.mjs';

const ROUND_TRIP_MS = 100;
const SERVER = fileURLToPath(new URL('../test/support/s3-server.ts', import.meta.url));
const PROCESS = fileURLToPath(new URL('./remote-server.mjs', import.meta.url));

/** The server and the link to it, until end(). */
async function startRemote(work) {
  const module = join(work, 's3-server.mjs');
  await build({ entryPoints: [SERVER], outfile: module, bundle: true, platform: 'node', format: 'esm' });
  const child = fork(PROCESS, [module, String(ROUND_TRIP_MS)], { execArgv: ['--expose-gc'] });
  const waiting = new Map();
  let count = 0;
  child.on('message', ({ number, result }) => {
    waiting.get(number)(result);
    waiting.delete(number);
  });
  const call = (name, options) =>
    new Promise((resolve) => {
      waiting.set(++count, resolve);
      child.send({ number: count, call: name, options });
    });
  const { endpoint, accessKeyId, secretAccessKey } = await call('address');
  const config = join(work, 'remote.yml');
  const path = join(work, 'remote.db');
  const replica = `type: s3, bucket: bucket, path: db, region: us-east-1, endpoint: '${endpoint}', force-path-style: true`;
  await fs.writeFile(
    config,
    `access-key-id: ${accessKeyId}\nsecret-access-key: ${secretAccessKey}\n` +
      `dbs:\n  - path: ${path}\n    replicas:\n      - { ${replica} }\n`,
  );
  return { config, path, call, end: () => child.disconnect() };
}

async function restoreRow(title, input, remote, { work, runs }) {
  await remote.call('clear');
  await remote.call('load', { folder: join(input, 'replica'), prefix: 'db/' });
  const output = join(work, 'restored');
  const samples = await interleaved(runs, async (name) => {
    const result = await run(PROGRAMS[name], [
      'restore',
      '-config',
      remote.config,
      '-o',
      output,
      remote.path,
    ]);
    for (const file of await fs.readdir(work)) {
      if (file.startsWith('restored')) await fs.rm(join(work, file));
    }
    return result;
  });
  return usageRows(title, samples);
}

/** From the start of the process until the snapshot is in the bucket. */
async function snapshotRow(megabytes, remote, { runs }) {
  await fs.copyFile(join(await database(megabytes), 'db'), remote.path);
  // A WAL with one commit, as a database in use has.
  const db = new Database(remote.path);
  db.exec('CREATE TABLE used (x); INSERT INTO used VALUES (1)');
  const samples = await interleaved(runs, async (name) => {
    await remote.call('clear');
    const began = performance.now();
    const program = start(PROGRAMS[name], ['replicate', '-config', remote.config]);
    // Not polled: the processors are the program's.
    const stored = remote.call('stored', '.snapshot.lz4').then(() => true);
    const ended = program.ended.then(() => false);
    if (!(await Promise.race([stored, ended]))) throw new Error(`${name} ended:\n${program.output()}`);
    const wallMs = performance.now() - began;
    const usage = program.sample();
    await program.stop();
    await fs.rm(join(remote.path, '..', '.remote.db-litestream'), { recursive: true });
    return { ...usage, wallMs };
  });
  db.close();
  return usageRows(`first snapshot of ${megabytes} MB to S3, 100 ms away`, samples);
}

export async function remote(context) {
  const far = await startRemote(context.work);
  try {
    const row = async (title, input) =>
      await restoreRow(`restore ${title} from S3, 100 ms away`, await input, far, context);
    return [
      ...(await row('64 MB, 400 WAL indexes of 100 pages', walReplica(400, 100))),
      ...(await row('64 MB, 30 WAL indexes of 30 segments', segmentReplica(30, 30))),
      ...(await row('200 MB from one snapshot', snapshotReplica(200))),
      ...(await snapshotRow(200, far, context)),
    ];
  } finally {
    far.end();
  }
}
