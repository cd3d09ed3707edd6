// A guest book that survives the loss of its disk: `node server.mjs`, sign, delete the folder `data`, and start it again.
//
// Its backup is a folder by default. With LITESTREAM_REPLICA_BUCKET (and _ENDPOINT, _REGION, LITESTREAM_ACCESS_KEY_ID,
// LITESTREAM_SECRET_ACCESS_KEY) it is a bucket.
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import express from 'express';
import { restoreIfMissing, startReplication } from 'litestream-ts';
import { dashboard } from 'litestream-ts/express';

const here = dirname(fileURLToPath(import.meta.url));
const { DATA = join(here, 'data'), BACKUP = join(here, 'backup'), PORT = '3000' } = process.env;
const path = join(DATA, 'guests.db');

const litestream = {
  databases: process.env.LITESTREAM_REPLICA_BUCKET ? [path] : [{ path, replicas: [{ path: BACKUP }] }],
  bucket: process.env.LITESTREAM_REPLICA_BUCKET,
  endpoint: process.env.LITESTREAM_REPLICA_ENDPOINT,
  region: process.env.LITESTREAM_REPLICA_REGION,
  // Not only in production: it is an example.
  enabled: true,
};

// On a new server, with an empty disk: before anything opens the database.
await restoreIfMissing(litestream);

mkdirSync(DATA, { recursive: true });
const database = new Database(path);
database.pragma('journal_mode = WAL');
database.pragma('busy_timeout = 5000');
// Litestream checkpoints: so it never misses what is in the WAL.
database.pragma('wal_autocheckpoint = 0');
database.exec(
  'CREATE TABLE IF NOT EXISTS guests (id INTEGER PRIMARY KEY, name TEXT NOT NULL, at TEXT NOT NULL)',
);

startReplication(litestream);

const app = express();
app.use(express.urlencoded());

const escape = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

app.get('/', (_request, response) => {
  const guests = database.prepare('SELECT name, at FROM guests ORDER BY id DESC').all();
  response.send(`<!doctype html><title>Guests</title>
<form method="post"><input name="name" required autofocus placeholder="Your name"> <button>Sign</button></form>
<ul>${guests.map(({ name, at }) => `<li>${escape(name)} <small>${at}</small></li>`).join('')}</ul>
<p><a href="/litestream/">Backups</a></p>`);
});

app.post('/', (request, response) => {
  const { name } = request.body;
  if (typeof name !== 'string' || name === '') return response.status(400).send('a name is needed');
  database.prepare("INSERT INTO guests (name, at) VALUES (?, datetime('now'))").run(name);
  response.redirect(303, '/');
});

// Asks for LITESTREAM_USERNAME and LITESTREAM_PASSWORD. With `auth: 'none'` it stands behind your own login.
app.use('/litestream', dashboard(litestream));

const server = app.listen(Number(PORT), '127.0.0.1', () => {
  console.log(`guest book on http://127.0.0.1:${server.address().port}`);
});
