// Bundles command and library, with all packages that they use: few files, of which each command loads its part, are
// most of what a quick start and a small installation need. Both share the chunks, which stand in dist/cli/. The
// compiler's own output stays beside it for tests of single modules; of it only declarations are published.
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';
import { dashboard } from './bundle-dashboard.mjs';
import { bundledPackages, notices } from './bundle-notices.mjs';
import { OPTIONS } from './bundle-options.mjs';

const LIBRARY = [
  'index',
  ...readdirSync('src/library/adapters').map((file) => `adapters/${file.slice(0, -3)}`),
];

rmSync('dist/cli', { recursive: true, force: true });
const { metafile } = await build({
  ...OPTIONS,
  entryPoints: {
    'cli/main': 'src/cmd/main.ts',
    'cli/checkpoint-worker': 'src/engine/checkpoint-worker.ts',
    'cli/reader-program': 'src/control/reader-program.ts',
    'cli/integrity-program': 'src/sqlite/integrity-program.ts',
    ...Object.fromEntries(LIBRARY.map((name) => [`library/${name}`, `src/library/${name}.ts`])),
  },
  outdir: 'dist',
  chunkNames: 'cli/[name]-[hash]',
  sourcemap: true,
  metafile: true,
});

const packages = bundledPackages(metafile, dashboard);
writeFileSync('dist/cli/THIRD-PARTY-NOTICES.txt', notices(packages));
// For `litestream version -json`.
const list = packages.map(({ name, version, license }) => ({ name, version, license }));
writeFileSync('dist/cli/packages.json', `${JSON.stringify(list, null, 2)}\n`);
