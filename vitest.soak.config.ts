import { defineConfig } from 'vitest/config';

/** The long stress runs: `SOAK_MINUTES=60 npm run test:soak`. */
export default defineConfig({
  test: {
    include: ['test/soak/**/*.soak.ts'],
    testTimeout: 24 * 3600_000,
    hookTimeout: 60_000,
    maxWorkers: 1,
  },
});
