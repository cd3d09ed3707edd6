/**
 * Where programs, threads and files of the build are, which cannot be part of the script that runs: files beside it, or
 * assets of the executable when all is one file (build-binary.mjs).
 */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LitestreamError } from './errors.ts';

/** Below src/, without an extension: what bundle.mjs makes an entry point of dist/cli/. */
export type EntryPoint = Thread | Program;
export type Thread = 'engine/checkpoint-worker';
export type Program = 'control/reader-program' | 'sqlite/integrity-program';

/** What build-binary.mjs puts into the executable. */
export type Asset =
  'package.json' | 'packages.json' | 'checkpoint-worker.js' | 'dashboard.js' | 'dashboard.css';

/** With what the executable starts one of its programs: no command begins like this. */
export const PROGRAM_FLAG = '--program=';

/** A CommonJS bundle has none. */
const HERE = import.meta.url as string | undefined;

/**
 * The compiled file of a program or a thread: of the command's bundle when that is what runs, else of the library. Sources
 * that are run as they are have it from the last build.
 * @throws LitestreamError 'unsupported' when it is not there
 */
export function entryPoint(name: EntryPoint): URL {
  const path = relativePath(name);
  return existing(path, HERE === undefined ? undefined : new URL(path, HERE));
}

/**
 * The command, for a process of its own. The paths are from any file of the layers and of the bundle, which are equally
 * deep, and are literal: what copies only the files that an application uses (Next.js, `output: 'standalone'`) reads them.
 * @throws LitestreamError 'unsupported' when it is not there
 */
export function commandFile(): URL {
  const isFile = HERE !== undefined;
  // Beside an application's bundle there may be another program of this name.
  existing('dist/cli/main.js', isFile ? new URL('../../dist/cli/main.js', import.meta.url) : undefined);
  return existing('bin/litestream', isFile ? new URL('../../bin/litestream', import.meta.url) : undefined);
}

function existing(path: string, url: URL | undefined): URL {
  // Yarn's Plug'n'Play shows the files of a zip file to the process that has loaded it, and to no other program.
  if (process.versions['pnp'] !== undefined && url?.pathname.includes('.zip/') === true) {
    throw new LitestreamError(
      'unsupported',
      `${url.pathname} is in a zip file: set nodeLinker: node-modules in .yarnrc.yml, or unplug litestream-ts`,
    );
  }
  if (url !== undefined && existsSync(url)) return url;
  throw new LitestreamError(
    'unsupported',
    `${url?.pathname ?? path} is missing: build first (npm run build); an application that is bundled must leave litestream-ts ` +
      'out of its bundle (esbuild: external, Next.js: serverExternalPackages)',
  );
}

/**
 * What `new Worker` takes.
 * @throws LitestreamError 'unsupported' when it is not there
 */
export function threadCode(name: Thread): { readonly code: string | URL; readonly eval: boolean } {
  const code = asset('checkpoint-worker.js');
  return code === undefined ? { code: entryPoint(name), eval: false } : { code, eval: true };
}

/**
 * The arguments of `process.execPath` that start a program; its own come after them.
 * @throws LitestreamError 'unsupported' when it is not there
 */
export function programArguments(name: Program): string[] {
  const inExecutable = asset('package.json') !== undefined;
  return inExecutable ? [PROGRAM_FLAG + name] : [fileURLToPath(entryPoint(name))];
}

/** A file of the build when all is one executable; undefined: it is a file. */
export function asset(name: Asset): string | undefined {
  // Not in all that run the library; and an application that is an executable itself has assets of its own.
  const sea = (process as Partial<typeof process>).getBuiltinModule?.('node:sea');
  if (sea?.isSea() !== true) return undefined;
  try {
    return sea.getAsset(`litestream/${name}`, 'utf8');
  } catch {
    return undefined;
  }
}

function relativePath(name: EntryPoint): string {
  if (HERE?.endsWith('/src/base/entry-point.ts') === true) return `../../dist/${name}.js`;
  if (HERE?.endsWith('/dist/base/entry-point.js') === true) return `../${name}.js`;
  return `./${name.replace(/.*\//, '')}.js`;
}
