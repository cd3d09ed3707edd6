import { defineConfig } from 'vitest/config';

/** The suite that looks for ways to lose data: `npm run test:crash -- quick`, docs/testing.md. */
export default defineConfig({
  test: {
    include: ['test/crash/**/*.crash.ts'],
    testTimeout: 24 * 3600_000,
    hookTimeout: 60_000,
    maxWorkers: 1,
  },
});
