// Bundles the command into dist/cli/: one file a command instead of a hundred modules, which is most of what starting
// it costs. The library in dist/ stays as the compiler wrote it. Packages with native parts and heavy ones that few
// commands need are not bundled.
import { rmSync } from 'node:fs';
import { build } from 'esbuild';
import './bundle-dashboard.mjs';

rmSync('dist/cli', { recursive: true, force: true });
await build({
  entryPoints: ['src/cmd/main.ts', 'src/engine/checkpoint-worker.ts'],
  outdir: 'dist/cli',
  entryNames: '[name]',
  chunkNames: '[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  // Not 'node': that picks the CommonJS build of yaml, which loads more slowly.
  platform: 'neutral',
  mainFields: ['module', 'main'],
  target: 'node20',
  sourcemap: true,
  external: [
    'node:*',
    'better-sqlite3',
    'lz4-napi',
    '@aws-sdk/*',
    '@smithy/*',
    '@azure/*',
    'google-auth-library',
    'ssh2',
    'age-encryption',
    'prom-client',
  ],
});
