// Bundles the command into dist/cli/: one file a command instead of a hundred modules, which is most of what starting
// it costs. The library in dist/ stays as the compiler wrote it. Packages with native parts and heavy ones that few
// commands need are not bundled; the S3 client, which most do, starts in half the time when it is.
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';
import './bundle-dashboard.mjs';

rmSync('dist/cli', { recursive: true, force: true });
const { metafile } = await build({
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
  metafile: true,
  external: [
    'node:*',
    'better-sqlite3',
    'lz4-napi',
    '@azure/*',
    'google-auth-library',
    'ssh2',
    'age-encryption',
    'prom-client',
  ],
});
writeFileSync('dist/cli/THIRD-PARTY-NOTICES.txt', notices(Object.keys(metafile.inputs)));

/** The licenses of the packages that are in the bundle, which must go with them. */
function notices(inputs) {
  const folders = new Set(inputs.map((input) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]));
  folders.delete(undefined);
  return [...folders]
    .sort()
    .map((folder) => {
      const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
      const files = readdirSync(folder).filter((file) => /^(license|licence|notice)/i.test(file));
      const texts = files.map((file) => readFileSync(`${folder}/${file}`, 'utf8').trim());
      return [`${name} ${version} (${license})`, ...texts].join('\n\n');
    })
    .join(`\n\n${'-'.repeat(80)}\n\n`);
}
