// Firebase's emulator of Google Cloud Storage: data flow only. It checks no credentials, makes buckets on first use,
// answers a range behind the end with the whole, and takes a resumable upload's first request for all of it.
//
//   node gcs-emulator.mjs --modules FOLDER [--host 127.0.0.1] [--port 0]
//
// FOLDER is the node_modules that holds firebase-tools. Prints `listens on http://HOST:PORT` and runs until SIGTERM or
// SIGINT. Its stock start() fetches an interpreter of access rules, so its parts are put together here without one.
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    modules: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
  },
});
if (values.modules === undefined) throw new Error('usage: node gcs-emulator.mjs --modules FOLDER');

// All emulators of a machine would share one folder, which each empties when it ends.
const folder = mkdtempSync(join(tmpdir(), 'gcs-emulator-'));
process.env.TMPDIR = folder;

const require = createRequire(join(resolve(values.modules), 'from-here.cjs'));
const { StorageEmulator } = require('firebase-tools/lib/emulator/storage/index.js');
const { EmulatorRegistry } = require('firebase-tools/lib/emulator/registry.js');
const { createApp } = require('firebase-tools/lib/emulator/storage/server.js');

const emulator = new StorageEmulator({
  projectId: 'demo-litestream',
  host: values.host,
  port: Number(values.port),
  rules: { name: 'storage.rules', content: '' },
});
const app = await createApp('demo-litestream', emulator);
const server = app.listen(Number(values.port), values.host, () => {
  const { port } = server.address();
  // Each answer names the address of its object, which is looked up here.
  EmulatorRegistry.set('storage', { getInfo: () => ({ name: 'storage', host: values.host, port }) });
  console.log(`listens on http://${values.host}:${port}`);
});

const stop = () => {
  server.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
  process.exit(0);
};
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
