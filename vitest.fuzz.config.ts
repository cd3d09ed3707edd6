import { defineConfig } from 'vitest/config';

/** The fuzzer of everything that reads what comes from outside: `npm run test:fuzz`, docs/testing.md. */
export default defineConfig({
  test: {
    include: ['test/fuzz/**/*.fuzz.ts'],
    testTimeout: 24 * 3600_000,
    hookTimeout: 60_000,
    // Each target works in a thread of its own.
    maxWorkers: 1,
    maxConcurrency: 2,
  },
});
