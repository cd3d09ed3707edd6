import { defineConfig } from 'vitest/config';

/** The drivers and the whole program on real servers, which are fetched when they are first needed: `npm run test:servers`. */
export default defineConfig({
  test: {
    include: ['test/servers/**/*.servers.ts'],
    globalSetup: ['test/servers/setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
