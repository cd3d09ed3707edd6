// The main job, end to end, with the real command: replicate a database under a live writer, lose it, restore the
// latest state and an earlier moment, and prove both equal row by row.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import BetterSqlite3 from 'better-sqlite3';

const here = dirname(fileURLToPath(import.meta.url));
const command = join(here, '..', 'bin', 'litestream');
const folder = mkdtempSync(join(tmpdir(), 'litestream-demo-'));
const database = join(folder, 'shop.db');
const config = join(folder, 'litestream.yml');
const ORDERS = 1000;
let step = 0;

/** @param {string} text */
const say = (text) => process.stdout.write(`\n${++step}. ${text}\n`);
/** @param {string} text */
const detail = (text) => process.stdout.write(`   ${text}\n`);

/**
 * Starts `litestream replicate` and waits until it says what it replicates to.
 * @returns {Promise<() => Promise<void>>} ends it by SIGTERM and insists on exit code 0: everything stored
 */
async function replicate() {
  const child = spawn(process.execPath, [command, 'replicate', '-config', config], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise((resolve) => {
    lines.on('line', (line) => {
      if (/new generation|snapshot written|level=(WARN|ERROR)/.test(line))
        detail(`litestream: ${line.replace(/^\S+ /, '')}`);
      if (line.includes('replicating to')) resolve(undefined);
    });
  });
  await Promise.race([
    ready,
    exited.then(([code]) => {
      throw new Error(`litestream replicate ended with code ${code}`);
    }),
  ]);
  return async () => {
    child.kill('SIGTERM');
    const [code] = await exited;
    if (code !== 0) throw new Error(`litestream replicate ended with code ${code}: not everything is stored`);
  };
}

/** @param {string[]} args */
async function litestream(...args) {
  const child = spawn(process.execPath, [command, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`litestream ${args.join(' ')} ended with code ${code}\n${output}`);
  return output;
}

/** All rows of all tables, as one list. @param {string} path */
function rowsOf(path) {
  const copy = new BetterSqlite3(path, { readonly: true });
  try {
    const check = copy.pragma('integrity_check', { simple: true });
    if (check !== 'ok') throw new Error(`integrity_check of ${path}: ${String(check)}`);
    return ['orders', 'totals'].flatMap((table) =>
      copy
        .prepare(`SELECT '${table}' AS source, * FROM ${table} ORDER BY 2`)
        .all()
        .map((row) => JSON.stringify(row)),
    );
  } finally {
    copy.close();
  }
}

/** @param {string} what @param {string[]} expected @param {string[]} actual */
function proveEqual(what, expected, actual) {
  const different = expected.findIndex((row, i) => row !== actual[i]);
  if (expected.length !== actual.length || different >= 0) {
    throw new Error(
      `${what} differs: ${actual.length} rows instead of ${expected.length}, first at ${different}`,
    );
  }
  detail(`✓ ${what}: ${expected.length} rows, each equal, integrity_check ok`);
}

async function main() {
  writeFileSync(
    config,
    `dbs:\n  - path: ${database}\n    replicas:\n      - path: ${join(folder, 'replica')}\n        sync-interval: 100ms\n`,
  );

  say('A shop takes orders into a SQLite database while litestream replicates it.');
  const writer = spawn(process.execPath, [join(here, 'writer.mjs'), database], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  /** @returns {Promise<number>} */
  const takeOrders = async () => {
    writer.send({ run: ORDERS });
    const [{ orders }] = await once(writer, 'message');
    return orders;
  };
  const first = takeOrders();
  let stop = await replicate();
  detail(`${await first} orders placed.`);

  say(
    'Litestream is stopped and started again: it ends with everything stored, and continues the same generation.',
  );
  await stop();
  const moment = new Date();
  const rowsThen = rowsOf(database);
  // Object times are the clock's: the next commit must not share this moment.
  await new Promise((resolve) => setTimeout(resolve, 20));
  stop = await replicate();
  detail(`${await takeOrders()} orders placed.`);
  await stop();
  const rowsNow = rowsOf(database);
  detail((await litestream('generations', '-config', config, database)).trimEnd().replaceAll('\n', '\n   '));

  say('Disaster: the database is deleted.');
  writer.kill('SIGKILL');
  await once(writer, 'exit');
  for (const file of readdirSync(folder).filter((name) => /shop\.db/.test(name)))
    rmSync(join(folder, file), { recursive: true });
  detail(`left in the folder: ${readdirSync(folder).join(', ')}`);

  say('The latest state is restored.');
  await litestream('restore', '-config', config, database);
  proveEqual('latest state', rowsNow, rowsOf(database));

  say(`The state of ${moment.toISOString()} is restored beside it.`);
  const earlier = join(folder, 'earlier.db');
  await litestream('restore', '-config', config, '-timestamp', moment.toISOString(), '-o', earlier, database);
  proveEqual('earlier state', rowsThen, rowsOf(earlier));

  process.stdout.write(`\nDone in ${process.uptime().toFixed(1)} s: nothing was lost.\n`);
}

try {
  await main();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
