// Makes a folder that has everything litestream needs, its Node.js included: for images (COPY --from), packages and
// servers without Node.js. It works wherever it is put, and by symbolic links to bin/litestream.
//
//   npm ci && node etc/opt-litestream.mjs /opt/litestream
//
// Takes the Node.js that runs it, and better-sqlite3 from node_modules when that Node.js has no node:sqlite that can be used.
// Fails when the folder exists already.
import { chmod, constants, copyFile, cp, mkdir, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const LAUNCHER = `#!/bin/sh
# Starts litestream with the Node.js of this folder, by whatever link it is called.
self=$(readlink -f -- "$0")
folder=\${self%/bin/litestream}
exec "$folder/libexec/node" "$folder/lib/bin/litestream" "$@"
`;

/** What nobody loads at run time: what compilers leave behind, declarations, source maps. */
const LEFT_OUT = [
  /\.(?:map|d\.[cm]?ts)$/,
  /\/(?:obj\.target|\.deps)$/,
  /^node_modules\/better-sqlite3\/(?:deps|src)$/,
  /\/test_extension\.node$/,
];

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [argument] = process.argv.slice(2);
if (argument === undefined) fail('usage: node etc/opt-litestream.mjs FOLDER');
const target = resolve(argument);
if (existsSync(target)) fail(`${target} exists already: remove it, or name another folder`);
if (!existsSync(join(root, 'dist/cli/main.js'))) fail('not built yet: run npm ci, which builds');

const lib = join(target, 'lib');
await mkdir(join(target, 'bin'), { recursive: true });
await mkdir(join(target, 'libexec'));
await copyFile(process.execPath, join(target, 'libexec/node'), constants.COPYFILE_FICLONE);
await chmod(join(target, 'libexec/node'), 0o755);
await writeFile(join(target, 'bin/litestream'), LAUNCHER, { mode: 0o755 });
await copyFile(join(root, 'etc/docker/entrypoint'), join(target, 'bin/entrypoint'));
await chmod(join(target, 'bin/entrypoint'), 0o755);
for (const part of [
  'package.json',
  'LICENSE',
  'bin',
  'dist/cli',
  'dist/dashboard',
  ...(await sqliteModules()),
])
  await copy(part);

/** SQLite, unless the Node.js of the folder brings it. What better-sqlite3 needs to be installed is left out. */
async function sqliteModules() {
  const { chooseDriver } = await import('../dist/sqlite/driver.js');
  if (chooseDriver(undefined).name === 'node:sqlite') return [];
  return ['better-sqlite3', 'bindings', 'file-uri-to-path'].map((name) => `node_modules/${name}`);
}

async function copy(part) {
  const from = join(root, part);
  await cp(from, join(lib, part), {
    recursive: true,
    filter: (path) => {
      const name = relative(root, path).split(sep).join('/');
      return !LEFT_OUT.some((pattern) => pattern.test(name));
    },
  });
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
