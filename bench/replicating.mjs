/** Measurements of a running `replicate`: lag and CPU beside a writer, idle databases, the writer's commit latency. */

import Database from 'better-sqlite3';
import { decompressFrame } from 'lz4-napi';
import { existsSync, promises as fs, watch } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PROGRAMS, quantile, run, sleep, start, until } from './measure.mjs';

const WRITER = [process.execPath, fileURLToPath(new URL('./writer.mjs', import.meta.url))];
const MARKER = /<<tick:(\d{8})>>/g;
const IDLE_SECONDS = 15;
const LOADS = [
  { title: '200 commits/s, default intervals', perSecond: 200, seconds: 12, intervals: [] },
  {
    title: '200 commits/s, 50 ms / 100 ms intervals',
    perSecond: 200,
    seconds: 12,
    intervals: ['50ms', '100ms'],
  },
  { title: 'one commit every 3 s, default intervals', perSecond: 1 / 3, seconds: 30, intervals: [] },
];

/**
 * A fresh folder with a database in WAL mode and a config for it. The connection keeps the WAL alive.
 * With `readOnly` the config leads through a read-only mount.
 */
async function site(work, { count = 1, intervals = [], readOnly = false } = {}) {
  const dir = await fs.mkdtemp(join(work, 'site-'));
  const data = join(dir, 'data');
  await fs.mkdir(data);
  const seen = readOnly ? await mountReadOnly(data, join(dir, 'mounted')) : data;
  const connections = [];
  const entries = [];
  for (let i = 0; i < count; i++) {
    const db = new Database(join(data, `db${i}`));
    db.pragma('journal_mode=WAL');
    db.exec('CREATE TABLE used (x); INSERT INTO used VALUES (1)');
    connections.push(db);
    const [monitor, sync] = intervals;
    entries.push(`  - path: ${seen}/db${i}`);
    if (readOnly) entries.push(`    meta-path: ${dir}/state${i}`);
    if (monitor) entries.push(`    monitor-interval: ${monitor}`);
    entries.push('    replicas:', `      - path: ${dir}/replica${i}`);
    if (sync) entries.push(`        sync-interval: ${sync}`);
  }
  const config = join(dir, 'litestream.yml');
  await fs.writeFile(config, `dbs:\n${entries.join('\n')}\n`);
  return {
    dir,
    config,
    database: join(data, 'db0'),
    end: async () => {
      for (const db of connections) db.close();
      if (readOnly) await run(['umount', seen]);
      await fs.rm(dir, { recursive: true });
    },
  };
}

/** Needs root. */
async function mountReadOnly(folder, mounted) {
  await fs.mkdir(mounted);
  await run(['mount', '--bind', folder, mounted]);
  await run(['mount', '-o', 'remount,bind,ro', mounted]);
  return mounted;
}

/** The folder of the WAL segments of a replica, once it is there. */
async function segmentsFolder(replica) {
  let folder;
  await until(async () => {
    const generations = join(replica, 'generations');
    if (!existsSync(generations)) return false;
    const [generation] = await fs.readdir(generations);
    folder = join(generations, generation ?? '-', 'wal');
    return existsSync(folder) && existsSync(join(generations, generation, 'snapshots'));
  }, 'the first WAL segment');
  return folder;
}

/** Notes when each segment gets its final name. */
function watchSegments(folder) {
  const seen = new Map();
  const watcher = watch(folder, (_, name) => {
    if (name?.endsWith('.wal.lz4') && !seen.has(name))
      seen.set(name, performance.timeOrigin + performance.now());
  });
  return { seen, close: () => watcher.close() };
}

/** The last commit in each segment by its marker. */
async function lastTicks(folder, names) {
  const ticks = new Map();
  for (const name of names) {
    const data = await decompressFrame(await fs.readFile(join(folder, name)));
    let last = 0;
    for (const [, digits] of data.toString('latin1').matchAll(MARKER)) last = Math.max(last, Number(digits));
    ticks.set(name, last);
  }
  return ticks;
}

/** Milliseconds from each commit's return until a segment with it has its name in the replica. */
function lags(commits, seen, ticks) {
  const arrivals = [...seen].map(([name, time]) => ({ time, last: ticks.get(name) ?? 0 }));
  return commits.map(([committed], i) => {
    const times = arrivals.filter(({ last }) => last >= i + 1).map(({ time }) => time);
    return times.length === 0 ? NaN : Math.min(...times) - committed;
  });
}

/** One run of a writer beside one program: lags, CPU share, commit latencies. */
async function follow(work, name, { perSecond, seconds, intervals, readOnly }) {
  const place = await site(work, { intervals, readOnly });
  const program = start(PROGRAMS[name], ['replicate', '-config', place.config]);
  const folder = await segmentsFolder(join(place.dir, 'replica0'));
  const segments = watchSegments(folder);
  const before = program.sample();
  const commits = await write(place.database, perSecond, seconds);
  const after = program.sample();
  // What is committed last needs two intervals to arrive.
  let ticks;
  await until(async () => {
    ticks = await lastTicks(folder, segments.seen.keys());
    return Math.max(0, ...ticks.values()) >= commits.length;
  }, 'the last commit in the replica');
  segments.close();
  await program.stop();
  await place.end();
  return {
    lags: lags(commits, segments.seen, ticks),
    cpuPercent: (after.cpuMs - before.cpuMs) / (seconds * 10),
    latencies: commits.map(([, took]) => took),
  };
}

async function write(path, perSecond, seconds) {
  const child = start(WRITER, [path, String(perSecond), String(seconds)]);
  const { code, output } = await child.ended;
  if (code !== 0) throw new Error(`writer failed: ${output}`);
  return JSON.parse(output);
}

/** Ours and v0.3.13 in turns. */
async function both(runs, sample) {
  const samples = { ours: [], oracle: [] };
  for (let i = 0; i < runs; i++)
    for (const name of Object.keys(PROGRAMS)) samples[name].push(await sample(name));
  return samples;
}

function row(title, unit, samples, read) {
  return { title, unit, ours: samples.ours.map(read), oracle: samples.oracle.map(read) };
}

export async function replication({ work, runs }) {
  const rows = [];
  for (const { title, ...load } of LOADS) {
    const samples = await both(Math.min(runs, 2), (name) => follow(work, name, load));
    rows.push(row(`lag, ${title}: median`, 'ms', samples, (s) => quantile(s.lags, 0.5)));
    rows.push(row(`lag, ${title}: 99th percentile`, 'ms', samples, (s) => quantile(s.lags, 0.99)));
    rows.push(row(`${title}: CPU`, '% of a core', samples, (s) => s.cpuPercent));
  }
  return rows;
}

/** Ours alone: v0.3.13 makes no backup from a read-only mount. Needs root. */
export async function readOnly({ work, runs }) {
  if (process.getuid() !== 0) {
    process.stderr.write('read-only: left out, as mounting needs root\n');
    return [];
  }
  const rows = [];
  for (const { title, ...load } of LOADS) {
    const modes = { 'read-write': [], 'read-only mount': [] };
    for (let i = 0; i < Math.min(runs, 2); i++) {
      for (const [mode, samples] of Object.entries(modes)) {
        samples.push(await follow(work, 'ours', { ...load, readOnly: mode !== 'read-write' }));
      }
    }
    for (const [mode, ours] of Object.entries(modes)) {
      const samples = { ours, oracle: [] };
      rows.push(row(`${mode}, ${title}: lag, median`, 'ms', samples, (s) => quantile(s.lags, 0.5)));
      rows.push(row(`${mode}, ${title}: lag, 99th percentile`, 'ms', samples, (s) => quantile(s.lags, 0.99)));
      rows.push(row(`${mode}, ${title}: CPU`, '% of a core', samples, (s) => s.cpuPercent));
      const latency = (s) => quantile(s.latencies, 0.5) * 1000;
      rows.push(row(`${mode}, ${title}: commit latency, median`, 'µs', samples, latency));
    }
  }
  return rows;
}

export async function idle({ work }) {
  const rows = [];
  for (const count of [1, 50, 200]) {
    const samples = await both(1, async (name) => {
      const place = await site(work, { count });
      const program = start(PROGRAMS[name], ['replicate', '-config', place.config]);
      for (let i = 0; i < count; i++) await segmentsFolder(join(place.dir, `replica${i}`));
      await sleep(2000);
      const before = program.sample();
      await sleep(IDLE_SECONDS * 1000);
      const after = program.sample();
      await program.stop();
      await place.end();
      return { cpuPercent: (after.cpuMs - before.cpuMs) / (IDLE_SECONDS * 10), peakBytes: after.peakBytes };
    });
    rows.push(row(`idle, ${count} databases: CPU`, '% of a core', samples, (s) => s.cpuPercent));
    rows.push(row(`idle, ${count} databases: peak memory`, 'MB', samples, (s) => s.peakBytes / 2 ** 20));
  }
  return rows;
}

/** How long a commit takes for the application, beside nothing, ours and v0.3.13. */
export async function latency({ work, runs }) {
  const load = { perSecond: 200, seconds: 10, intervals: [] };
  const alone = [];
  for (let i = 0; i < Math.min(runs, 2); i++) {
    const place = await site(work);
    const commits = await write(place.database, load.perSecond, load.seconds);
    await place.end();
    alone.push({ latencies: commits.map(([, took]) => took) });
  }
  const samples = await both(Math.min(runs, 2), (name) => follow(work, name, load));
  const rows = [];
  for (const [title, share] of [
    ['median', 0.5],
    ['99th percentile', 0.99],
  ]) {
    const read = (s) => quantile(s.latencies, share) * 1000;
    rows.push(row(`commit latency alone: ${title}`, 'µs', { ours: alone, oracle: [] }, read));
    rows.push(row(`commit latency while followed: ${title}`, 'µs', samples, read));
  }
  return rows;
}
