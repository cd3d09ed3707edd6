/**
 * The application, in a process of its own. Every state of its database can be recognised: commit n adds row n of `chain`,
 * whose hash covers all commits before it, and writes two rows of `slots`, which are told by that hash. So a database is the
 * exact prefix of n commits if its rows agree with each other and its last hash is that of commit n.
 */

import Database from 'better-sqlite3';
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';

const SLOTS = 24;
/** Who waits longer than this is locked out. */
const BUSY_MS = 10_000;

/** @type {Database.Database | undefined} */
let connection;
let statements;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS chain (n INTEGER PRIMARY KEY, payload BLOB NOT NULL, hash TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS slots (id INTEGER PRIMARY KEY, hash TEXT NOT NULL, filler BLOB NOT NULL);`;

const sha = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex');

/** The slots that a commit writes. */
const slotsOf = (hash) => [
  1 + (parseInt(hash.slice(0, 6), 16) % SLOTS),
  1 + (parseInt(hash.slice(6, 12), 16) % SLOTS),
];

function open({ path, pragmas = [] }) {
  connection = new Database(path, { timeout: BUSY_MS });
  try {
    connection.pragma('journal_mode=WAL');
    for (const pragma of pragmas) connection.pragma(pragma);
    connection.exec(SCHEMA);
  } catch (error) {
    // A connection that is left open keeps the files that the next try is to find gone.
    connection.close();
    throw error;
  }
  statements = {
    last: connection.prepare('SELECT n, hash FROM chain ORDER BY n DESC LIMIT 1'),
    add: connection.prepare('INSERT INTO chain VALUES (?, ?, ?)'),
    slot: connection.prepare('INSERT OR REPLACE INTO slots VALUES (?, ?, ?)'),
  };
}

/** Commits so often; the new hashes. `salt` tells lives apart in which the same numbers are used again. */
function commit({ count, salt }) {
  const hashes = [];
  for (let i = 0; i < count; i++) {
    connection.exec('BEGIN IMMEDIATE');
    const last = statements.last.get() ?? { n: 0, hash: '' };
    const n = last.n + 1;
    const key = sha(salt, String(n));
    const payload = Buffer.alloc(40 + (parseInt(key.slice(0, 8), 16) % 2500), key);
    const hash = sha(last.hash, String(n), payload);
    statements.add.run(n, payload, hash);
    for (const slot of slotsOf(hash)) statements.slot.run(slot, hash, payload.subarray(0, 900));
    connection.exec('COMMIT');
    hashes.push(hash);
  }
  return hashes;
}

/** What is in a database: the number of commits, the last hash, and what is wrong with it. */
function examine(database) {
  const [{ integrity_check: integrity }] = database.pragma('integrity_check');
  if (integrity !== 'ok') return { n: 0, hash: '', problem: `integrity_check: ${integrity}` };
  if (
    database.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name IN ('chain', 'slots')").get().n < 2
  )
    return { n: 0, hash: '' };
  let hash = '';
  let n = 0;
  const slots = new Map();
  for (const row of database.prepare('SELECT * FROM chain ORDER BY n').iterate()) {
    if (row.n !== n + 1) return { n, hash, problem: `commit ${n + 1} is missing` };
    if (row.hash !== sha(hash, String(row.n), row.payload))
      return { n, hash, problem: `row ${row.n} is wrong` };
    ({ n, hash } = row);
    for (const slot of slotsOf(hash)) slots.set(slot, hash);
  }
  for (const row of database.prepare('SELECT id, hash FROM slots').iterate()) {
    if (row.hash !== slots.get(row.id))
      return { n, hash, problem: `slot ${row.id} is not that of commit ${n}` };
    slots.delete(row.id);
  }
  return slots.size > 0 ? { n, hash, problem: `${slots.size} slots are missing` } : { n, hash };
}

/** examine() for a file that nobody uses; it is removed then when it was restored for this. */
function inspect({ path, remove }) {
  try {
    const database = new Database(path, { timeout: BUSY_MS });
    try {
      return examine(database);
    } finally {
      database.close();
    }
  } catch (error) {
    return { n: 0, hash: '', problem: `cannot be read: ${error.message}` };
  } finally {
    if (remove) for (const end of ['', '-wal', '-shm']) rmSync(`${path}${end}`, { force: true });
  }
}

const OPERATIONS = {
  open,
  commit,
  checkpoint: ({ mode }) => connection.pragma(`wal_checkpoint(${mode})`)[0].busy,
  exec: ({ sql }) => void connection.exec(sql),
  examine: () => examine(connection),
  inspect,
  close: () => void connection.close(),
};

process.on('message', ({ id, operation, argument }) => {
  try {
    process.send({ id, result: OPERATIONS[operation](argument) });
  } catch (error) {
    process.send({ id, error: error.message });
  }
});
// The parent is gone: leave without a checkpoint.
process.on('disconnect', () => process.exit(0));
