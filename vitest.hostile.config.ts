import { defineConfig } from 'vitest/config';

/** The suite of stores that lie: `npm run test:hostile`, docs/testing.md. */
export default defineConfig({
  test: {
    include: ['test/hostile/**/*.hostile.ts'],
    testTimeout: 24 * 3600_000,
    hookTimeout: 120_000,
    maxWorkers: 1,
  },
});
