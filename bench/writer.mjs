/**
 * An application in a process of its own. `node writer.mjs DATABASE PER_SECOND SECONDS` commits at a steady rate; prints
 * JSON: when each commit returned (milliseconds since the epoch) and how long it took. Commit n writes the marker
 * `<<tick:n>>`, by which it is found again in a replica.
 */

import Database from 'better-sqlite3';

const [path, perSecond, seconds] = process.argv.slice(2);
const db = new Database(path, { timeout: 10_000 });
db.pragma('synchronous=NORMAL');
db.exec(`CREATE TABLE IF NOT EXISTS tick (id INTEGER PRIMARY KEY, marker TEXT);
  CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, body TEXT);
  INSERT OR IGNORE INTO tick VALUES (1, '')`);
const tick = db.prepare('UPDATE tick SET marker = ? WHERE id = 1');
const event = db.prepare('INSERT INTO event (body) VALUES (?)');
const body = 'order placed by a customer; '.repeat(8);

const intervalMs = 1000 / Number(perSecond);
const total = Math.round(Number(perSecond) * Number(seconds));
const commits = [];
const begin = performance.now();
for (let n = 1; n <= total; n++) {
  const wait = begin + n * intervalMs - performance.now();
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
  const start = performance.now();
  db.exec('BEGIN IMMEDIATE');
  tick.run(`<<tick:${String(n).padStart(8, '0')}>>`);
  event.run(body);
  db.exec('COMMIT');
  const end = performance.now();
  commits.push([performance.timeOrigin + end, end - start]);
}
process.stdout.write(JSON.stringify(commits), () => {
  // Not close(): the WAL stays for the replicator.
  process.exit(0);
});
