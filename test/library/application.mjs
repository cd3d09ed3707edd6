// A web application as its authors would write it: one connection to the database in the server's own process, replication
// by one call. It is told what to do by its environment, and says what happens in lines of JSON.
import cluster from 'node:cluster';
import { createServer } from 'node:http';
import Database from 'better-sqlite3';
import { restoreIfMissing, startReplication } from '../../dist/library/index.js';

const {
  APP_DATABASE,
  APP_OPTIONS = '{}',
  APP_ON_SIGTERM,
  APP_LISTENER,
  APP_RESTORE,
  APP_WORKERS = '0',
} = process.env;

const say = (message) => process.stdout.write(`${JSON.stringify({ worker: process.pid, ...message })}\n`);

async function run() {
  const options = {
    enabled: true,
    ...JSON.parse(APP_OPTIONS),
    logger: ({ level, message, attributes }) => say({ level, message, attributes }),
  };
  if (APP_RESTORE !== 'no') say({ missing: await restoreIfMissing(options) });
  const database = new Database(APP_DATABASE);
  database.pragma('journal_mode = WAL');
  database.pragma('wal_autocheckpoint = 0');
  database.pragma('busy_timeout = 5000');
  database.exec('CREATE TABLE IF NOT EXISTS commits (n INTEGER PRIMARY KEY, payload BLOB)');
  const insert = database.prepare('INSERT INTO commits (payload) VALUES (randomblob(?))');
  const count = database.prepare('SELECT count(*) AS n FROM commits');

  const replication = startReplication(options);
  for (const event of ['start', 'ready', 'generation', 'standby', 'exit', 'failure', 'restart', 'stop']) {
    replication.on(event, (details) => say({ event, ...details, error: details?.message }));
  }
  if (APP_ON_SIGTERM === 'stop') {
    process.on('SIGTERM', () => void replication.stop().then(() => process.exit(0)));
  }
  replication.on('ready', () => {
    if (APP_LISTENER === 'bad') throw new Error('a listener of the application fails');
  });

  const routes = {
    '/write': () => ({ n: Number(insert.run(200).lastInsertRowid) }),
    '/count': () => count.get(),
    '/state': () => ({ state: replication.state, pid: replication.pid ?? null }),
    '/sync': async () => ({ stored: await replication.waitForSync({ timeoutMs: 30_000 }) }),
  };
  const server = createServer(async (request, response) => {
    try {
      response.end(JSON.stringify(await routes[request.url]()));
    } catch (error) {
      response.writeHead(500).end(error.message);
    }
  });
  server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
}

if (cluster.isPrimary && APP_WORKERS !== '0') for (let i = 0; i < Number(APP_WORKERS); i++) cluster.fork();
else await run();
