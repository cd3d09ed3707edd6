/**
 * Deterministic inputs, built once and kept in `.cache/bench`: databases of ordinary-looking rows, and replicas in
 * v0.3.13's layout made of real WAL files, with exactly as many indexes as wanted.
 */

import Database from 'better-sqlite3';
import { compressFrame } from 'lz4-napi';
import { existsSync, promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const CACHE = fileURLToPath(new URL('../.cache/bench', import.meta.url));
const GENERATION = 'be9c4000be9c4000';
const PAGE_SIZE = 4096;
/** Raised when the way of building changes, so that old inputs are not used. */
const VERSION = 'v1';

const WORDS =
  'account order invoice paid pending shipped customer note address street city refund late'.split(' ');

function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 4294967296;
  };
}

/** About 400 bytes of JSON: a third of it does not compress, as in real rows. */
function row(random) {
  const id = Array.from({ length: 16 }, () => Math.floor(random() * 2 ** 32).toString(36)).join('');
  const words = Array.from({ length: 36 }, () => WORDS[Math.floor(random() * WORDS.length)]).join(' ');
  return JSON.stringify({ id, words });
}

function createDatabase(path, sizeBytes) {
  const db = new Database(path);
  db.pragma('journal_mode=WAL');
  db.pragma('synchronous=OFF');
  db.exec('CREATE TABLE item (id INTEGER PRIMARY KEY, body TEXT NOT NULL)');
  const random = generator(1);
  const insert = db.prepare('INSERT INTO item (body) VALUES (?)');
  const batch = db.transaction(() => {
    for (let i = 0; i < 10_000; i++) insert.run(row(random));
  });
  while (Number(db.pragma('page_count', { simple: true })) * PAGE_SIZE < sizeBytes) batch();
  db.pragma('wal_checkpoint(TRUNCATE)');
  return db;
}

/** Builds `name` in the cache unless it is there, complete. */
async function cached(name, build) {
  const target = join(CACHE, `${name}-${VERSION}`);
  if (existsSync(target)) return target;
  const partial = `${target}.partial`;
  await fs.rm(partial, { recursive: true, force: true });
  await fs.mkdir(partial, { recursive: true });
  process.stderr.write(`building ${name}\n`);
  await build(partial);
  await fs.rename(partial, target);
  return target;
}

/** A closed database of that size; the folder holds `db`. */
export async function database(megabytes) {
  return await cached(`database-${megabytes}`, async (dir) => {
    createDatabase(join(dir, 'db'), megabytes * 2 ** 20).close();
  });
}

/** A replica that is one snapshot of a database of that size. */
export async function snapshotReplica(megabytes) {
  const source = await database(megabytes);
  return await cached(`snapshot-${megabytes}`, async (dir) => {
    await writeObject(dir, 'snapshots/00000000.snapshot.lz4', await fs.readFile(join(source, 'db')));
  });
}

/** A replica of a 64 MB database: a snapshot and `indexes` WAL indexes of about `pages` frames each. */
export async function walReplica(indexes, pages) {
  return await cached(`wal-${indexes}x${pages}`, async (dir) => {
    const path = join(dir, 'db');
    const db = createDatabase(path, 64 * 2 ** 20);
    db.pragma('wal_autocheckpoint=0');
    await writeObject(dir, 'snapshots/00000000.snapshot.lz4', await fs.readFile(path));
    const { n } = db.prepare('SELECT max(id) AS n FROM item').get();
    const random = generator(indexes);
    const update = db.prepare('UPDATE item SET body = ? WHERE id = ?');
    // Commits of 20 rows on random pages.
    const commit = db.transaction(() => {
      for (let i = 0; i < 20; i++) update.run(row(random), 1 + Math.floor(random() * n));
    });
    for (let index = 0; index < indexes; index++) {
      do commit();
      while ((await fs.stat(`${path}-wal`)).size < 32 + pages * (PAGE_SIZE + 24));
      const name = `wal/${index.toString(16).padStart(8, '0')}_00000000.wal.lz4`;
      await writeObject(dir, name, await fs.readFile(`${path}-wal`));
      db.pragma('wal_checkpoint(TRUNCATE)');
    }
    db.close();
  });
}

/** The same with commits of their own segments, as a database with little traffic leaves them: `segments` of each index. */
export async function segmentReplica(indexes, segments) {
  return await cached(`segments-${indexes}x${segments}`, async (dir) => {
    const path = join(dir, 'db');
    const db = createDatabase(path, 64 * 2 ** 20);
    db.pragma('wal_autocheckpoint=0');
    await writeObject(dir, 'snapshots/00000000.snapshot.lz4', await fs.readFile(path));
    const { n } = db.prepare('SELECT max(id) AS n FROM item').get();
    const random = generator(segments);
    const update = db.prepare('UPDATE item SET body = ? WHERE id = ?');
    for (let index = 0; index < indexes; index++) {
      for (let start = 0, segment = 0; segment < segments; segment++) {
        for (let i = 0; i < 3; i++) update.run(row(random), 1 + Math.floor(random() * n));
        const wal = await fs.readFile(`${path}-wal`);
        const [name, offset] = [index, start].map((number) => number.toString(16).padStart(8, '0'));
        await writeObject(dir, `wal/${name}_${offset}.wal.lz4`, wal.subarray(start));
        start = wal.length;
      }
      db.pragma('wal_checkpoint(TRUNCATE)');
    }
    db.close();
  });
}

async function writeObject(dir, name, data) {
  const path = join(dir, 'replica', 'generations', GENERATION, name);
  await fs.mkdir(join(path, '..'), { recursive: true });
  await fs.writeFile(path, await compressFrame(data, { contentChecksum: true }));
}
