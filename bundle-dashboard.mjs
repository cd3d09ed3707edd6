// Bundles what the dashboard's page loads into dist/dashboard/: one script and one style sheet, small enough for a phone.
import { readFileSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

const notice = readFileSync(new URL('node_modules/uplot/LICENSE', import.meta.url), 'utf8').trim();

rmSync('dist/dashboard', { recursive: true, force: true });
/** What is in the script. */
export const { metafile: dashboard } = await build({
  entryPoints: { dashboard: 'src/web/dashboard/client/main.ts' },
  outdir: 'dist/dashboard',
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome108', 'firefox110', 'safari16'],
  metafile: true,
  banner: { js: `/*! Contains uPlot.\n${notice}\n*/` },
});
await build({
  entryPoints: { dashboard: 'src/web/dashboard/client/style.css' },
  outdir: 'dist/dashboard',
  bundle: true,
  minify: true,
  banner: { css: `/*! Contains the style sheet of uPlot.\n${notice}\n*/` },
});
