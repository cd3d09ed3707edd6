import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Two workers: the e2e tests spawn processes of their own, and machines that run them may be small.
    maxWorkers: 2,
    // Applications in the tests' own processes are on better-sqlite3, and two copies of SQLite undo each other's locks there.
    env: { LITESTREAM_SQLITE: 'better-sqlite3' },
  },
});
