import { defineConfig } from 'vitest/config';
import { findNodeSqlite } from './test/support/node-sqlite.ts';

const { path, missing } = findNodeSqlite();
if (missing !== undefined) process.stderr.write(`node:sqlite is not tested: ${missing}\n`);

/** Of the end-to-end tests those in which it matters who locks, checkpoints, opens and closes. */
const FILES = [
  ...['faults', 'headless-generation', 'identity', 'interop', 'kills', 'lifecycle', 'local-state', 'mishaps'],
  ...['older-history', 'overwritten-between-runs', 'point-in-time', 'read-only', 'read-only-stress'],
  ...['read-only-successor', 'replace-opened', 'restore-in-place', 'restore-shared-disk', 'shutdown'],
  ...['stress', 'truncate', 'two-programs', 'two-writers', 'unchained-wal', 'untouched', 'verify'],
];

/**
 * The SQLite driver, and the program on node:sqlite: `npm run test:node-sqlite`. Tests and applications run on the Node.js
 * that runs this, with better-sqlite3; the program under test on one that has node:sqlite.
 */
export default defineConfig({
  test: {
    include:
      missing === undefined
        ? [
            'test/sqlite/{driver,integrity-check}.test.ts',
            'test/cmd/restore.test.ts',
            `test/e2e/{${FILES.join()}}.test.ts`,
          ]
        : [],
    passWithNoTests: missing !== undefined,
    env: { LITESTREAM_NODE: path ?? '', LITESTREAM_CHILD_SQLITE: 'node' },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
