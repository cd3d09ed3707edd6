/**
 * One SQLite connection in a process of its own, driven over IPC: single statements, checkpoints, and loads that run
 * until they are stopped. An application beside litestream is always such a process, because POSIX locks belong
 * to processes.
 *
 * Table `commits` numbers the commits over all writers (n) and per writer (seq), and says what `payload` holds after
 * each: how many rows and the sum of their values. So a database can be checked to be an exact prefix of the commits.
 */

import Database from 'better-sqlite3';

/** @type {Database.Database | undefined} */
let connection;
let loading = false;

/** Small seeded generator (mulberry32): the same seed makes the same load. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function db() {
  if (connection === undefined) throw new Error('no database is open');
  return connection;
}

function isBusy(error) {
  return String(error?.code).startsWith('SQLITE_BUSY') || error?.code === 'SQLITE_LOCKED';
}

function open({ path, readonly = false, timeoutMs = 10_000, pragmas = [] }) {
  connection = new Database(path, { readonly, timeout: timeoutMs });
  for (const pragma of pragmas) connection.pragma(pragma);
  // A connection whose first use of a WAL is a checkpoint blocks itself with the read lock that it opens the WAL by.
  connection.prepare('SELECT count(*) FROM sqlite_schema').get();
}

function checkpoint({ mode, timeoutMs }) {
  if (timeoutMs !== undefined) db().pragma(`busy_timeout=${timeoutMs}`);
  const start = performance.now();
  const [row] = db().pragma(`wal_checkpoint(${mode})`);
  return { ...row, elapsedMs: performance.now() - start };
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS commits (n INTEGER PRIMARY KEY, writer INTEGER NOT NULL, seq INTEGER NOT NULL,
    payload_rows INTEGER NOT NULL, payload_sum INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS payload (id INTEGER PRIMARY KEY, v INTEGER NOT NULL, data BLOB NOT NULL);
  CREATE INDEX IF NOT EXISTS payload_v ON payload (v);`;

/** One random transaction on `payload`; the change of its row count and sum. */
function change(random, statements, { maxRows, maxBlobBytes }) {
  const delta = { rows: 0, sum: 0 };
  const kind = random();
  const count = 1 + Math.floor(random() ** 3 * maxRows);
  if (kind < 0.7) {
    for (let i = 0; i < count; i++) {
      const v = Math.floor(random() * 1e6);
      // Blobs of repeated text: compressible, as real data is.
      statements.insert.run(v, Buffer.alloc(Math.floor(random() * maxBlobBytes), `${v} `));
      delta.rows++;
      delta.sum += v;
    }
  } else if (kind < 0.85) {
    for (const { v } of statements.remove.all(Math.floor(random() * 1e6), count)) {
      delta.rows--;
      delta.sum -= v;
    }
  } else {
    for (const { id } of statements.select.all(Math.floor(random() * 1e6), count)) {
      statements.increment.run(id);
      delta.sum++;
    }
  }
  return delta;
}

function prepare() {
  return {
    begin: db().prepare('BEGIN IMMEDIATE'),
    commit: db().prepare('COMMIT'),
    rollback: db().prepare('ROLLBACK'),
    last: db().prepare('SELECT n, payload_rows, payload_sum FROM commits ORDER BY n DESC LIMIT 1'),
    seq: db().prepare('SELECT max(seq) AS seq FROM commits WHERE writer = ?'),
    note: db().prepare('INSERT INTO commits VALUES (?, ?, ?, ?, ?)'),
    insert: db().prepare('INSERT INTO payload (v, data) VALUES (?, ?)'),
    remove: db().prepare(
      'DELETE FROM payload WHERE id IN (SELECT id FROM payload WHERE v >= ? ORDER BY v LIMIT ?) RETURNING v',
    ),
    select: db().prepare('SELECT id FROM payload WHERE v >= ? ORDER BY v LIMIT ?'),
    increment: db().prepare('UPDATE payload SET v = v + 1 WHERE id = ?'),
  };
}

/** One transaction of a writer, committed or rolled back. Whether it was committed. */
function transaction(random, statements, options) {
  statements.begin.run();
  try {
    const last = statements.last.get() ?? { n: 0, payload_rows: 0, payload_sum: 0 };
    const seq = (statements.seq.get(options.writer).seq ?? 0) + 1;
    const delta = change(random, statements, options);
    if (random() < options.rollbackShare) {
      statements.rollback.run();
      return false;
    }
    const rows = last.payload_rows + delta.rows;
    statements.note.run(last.n + 1, options.writer, seq, rows, last.payload_sum + delta.sum);
    statements.commit.run();
    return true;
  } catch (error) {
    if (db().inTransaction) statements.rollback.run();
    throw error;
  }
}

/** One step of each kind of load; busy databases are part of the load, unless it says otherwise. */
const STEPS = {
  write: (random, options) => {
    const done = transaction(random, options.statements, options);
    if (random() < options.vacuumShare) db().exec('VACUUM');
    return done ? 1 : 0;
  },
  checkpoint: (random) => {
    db().pragma(`wal_checkpoint(${random() < 0.5 ? 'RESTART' : 'TRUNCATE'})`);
    return 1;
  },
  read: async (random, { holdMs }) => {
    db().exec('BEGIN');
    db().prepare('SELECT count(*) FROM commits').get();
    await new Promise((resolve) => setTimeout(resolve, random() * holdMs));
    db().exec('COMMIT');
    return 1;
  },
};

const LOAD_DEFAULTS = {
  kind: 'write',
  writer: 1,
  maxRows: 300,
  maxBlobBytes: 1200,
  rollbackShare: 0.08,
  vacuumShare: 0,
  holdMs: 1500,
  pauseMs: 0,
  steps: Infinity,
  mayBeBusy: true,
};

/** Runs a load until `stop` or for `steps` steps; how many steps took effect. */
async function load(given) {
  const options = { ...LOAD_DEFAULTS, ...given };
  const random = generator(options.seed);
  if (options.kind === 'write') {
    db().exec(SCHEMA);
    options.statements = prepare();
  }
  loading = true;
  let done = 0;
  for (let step = 0; loading && step < options.steps; step++) {
    try {
      done += await STEPS[options.kind](random, options);
    } catch (error) {
      if (!options.mayBeBusy || !isBusy(error)) throw error;
    }
    // The yield lets messages in.
    await new Promise((resolve) =>
      options.pauseMs > 0 ? setTimeout(resolve, random() * options.pauseMs) : setImmediate(resolve),
    );
  }
  return done;
}

const OPERATIONS = {
  open,
  exec: ({ sql }) => void db().exec(sql),
  all: ({ sql, values = [] }) =>
    db()
      .prepare(sql)
      .all(...values),
  checkpoint,
  load,
  stop: () => void (loading = false),
  close: () => void connection?.close(),
};

process.on('message', ({ id, operation, argument }) => {
  Promise.resolve()
    .then(() => OPERATIONS[operation](argument))
    .then(
      (result) => process.send({ id, result }),
      (error) => process.send({ id, error: error.message, code: error.code }),
    );
});
// The parent is gone: leave without a checkpoint.
process.on('disconnect', () => process.exit(0));
