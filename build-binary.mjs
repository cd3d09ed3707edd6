// Makes one executable file that has everything, Node.js included (a "single executable application" of Node.js), for
// the platform that it runs on: `npm run build:binary [-- FOLDER]`, default dist/binary/. Beside it the texts of the
// licenses, which must go wherever it goes.
//
// It is made of the Node.js that LITESTREAM_NODE names, else of the one that runs this, else of the development
// dependency. Its own SQLite must be one that can be used, since the executable has no other.
import { execFileSync } from 'node:child_process';
import { copyFileSync, chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { realpathSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { OPTIONS } from './bundle-options.mjs';

/** What says in a Node.js that there is a script in it. */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

const root = fileURLToPath(new URL('.', import.meta.url));
const target = resolve(process.argv[2] ?? join(root, 'dist/binary'));
if (!existsSync(join(root, 'dist/cli/main.js'))) fail('not built yet: run npm ci, which builds');

const node = nodeWithSqlite();
const work = mkdtempSync(join(tmpdir(), 'litestream-binary-'));
try {
  const executable = join(work, 'litestream');
  // The blob is of the same Node.js as the file that it is put into.
  quietly(node, ['--experimental-sea-config', await writeConfig()]);
  copyFileSync(node, executable);
  chmodSync(executable, 0o755);
  if (process.platform === 'darwin') quietly('codesign', ['--remove-signature', executable]);
  const postject = join(root, 'node_modules/postject/dist/cli.js');
  const names = ['--sentinel-fuse', FUSE, '--macho-segment-name', 'NODE_SEA'];
  quietly(process.execPath, [postject, executable, 'NODE_SEA_BLOB', join(work, 'blob'), ...names]);
  if (process.platform === 'darwin') quietly('codesign', ['--sign', '-', executable]);
  mkdirSync(target, { recursive: true });
  // Never written over: it may be running.
  copyFileSync(executable, join(target, 'litestream.new'));
  renameSync(join(target, 'litestream.new'), join(target, 'litestream'));
  writeFileSync(join(target, 'THIRD-PARTY-NOTICES.txt'), notices());
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** What these programs say matters only when they fail: then it is in the error. */
function quietly(program, args) {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** What goes into the executable. */
async function writeConfig() {
  await bundle('main', 'bin/litestream');
  await bundle('checkpoint-worker', 'src/engine/checkpoint-worker.ts');
  const files = {
    'package.json': join(root, 'package.json'),
    'packages.json': join(root, 'dist/cli/packages.json'),
    'checkpoint-worker.js': join(work, 'checkpoint-worker.js'),
    'dashboard.js': join(root, 'dist/dashboard/dashboard.js'),
    'dashboard.css': join(root, 'dist/dashboard/dashboard.css'),
  };
  const config = {
    main: join(work, 'main.js'),
    output: join(work, 'blob'),
    disableExperimentalSEAWarning: true,
    // Most of the script is the SDKs of stores, which a command may not need: with it they are not even parsed.
    useCodeCache: true,
    assets: Object.fromEntries(Object.entries(files).map(([name, path]) => [`litestream/${name}`, path])),
  };
  const path = join(work, 'sea.json');
  writeFileSync(path, JSON.stringify(config));
  return path;
}

/** A script in one piece, as CommonJS: there are no files that it could import. */
function bundle(name, entryPoint) {
  const launcher = join(root, 'bin/litestream');
  return build({
    ...OPTIONS,
    absWorkingDir: root,
    entryPoints: { [name]: entryPoint },
    outdir: work,
    splitting: false,
    format: 'cjs',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    // There is no module that has a place: what it requires is looked for beside the executable.
    define: { ...OPTIONS.define, 'import.meta.url': 'executableUrl' },
    banner: { js: "const executableUrl = require('node:url').pathToFileURL(process.execPath).href;" },
    plugins: [
      {
        name: 'launcher',
        setup({ onLoad, onResolve }) {
          onLoad({ filter: /\/bin\/litestream$/ }, () => ({
            contents: readFileSync(launcher, 'utf8').replace(/^#!.*/, ''),
            loader: 'js',
          }));
          onResolve({ filter: /\/dist\/cli\/main\.js$/ }, () => ({
            path: join(root, 'src/cmd/executable.ts'),
          }));
        },
      },
      ...OPTIONS.plugins,
    ],
  });
}

function nodeWithSqlite() {
  const host = `${process.platform}-${process.arch}`;
  const dependency = join(root, 'node_modules', `node-${host}`);
  const named = process.env.LITESTREAM_NODE;
  const candidates = [named ?? process.execPath];
  if (named === undefined && existsSync(dependency)) {
    candidates.push(join(realpathSync(dependency), 'node_modules', `node-${host}`, 'bin/node'));
  }
  const driver = JSON.stringify(new URL('dist/sqlite/driver.js', import.meta.url).href);
  const reasons = [];
  for (const path of candidates) {
    try {
      const failed = '({ message }) => { process.stderr.write(message); process.exit(1); }';
      const script = `import(${driver}).then((driver) => driver.chooseDriver('node')).catch(${failed})`;
      quietly(path, ['-e', script]);
      if (readFileSync(path).includes(FUSE)) return path;
      reasons.push(`${path} is not the whole of Node.js (a distribution's?): take one of nodejs.org`);
    } catch (error) {
      reasons.push(`${path}: ${error.stderr || error.message}`);
    }
  }
  return fail(`no Node.js to make it of:\n${reasons.join('\n')}\nname one by LITESTREAM_NODE`);
}

/** Of the packages in it, and of Node.js with all that is in that. */
function notices() {
  const packages = readFileSync(join(root, 'dist/cli/THIRD-PARTY-NOTICES.txt'), 'utf8');
  const version = quietly(node, ['--version']).trim();
  const path = join(dirname(dirname(realpathSync(node))), 'LICENSE');
  const text = existsSync(path)
    ? readFileSync(path, 'utf8').trim()
    : `https://github.com/nodejs/node/blob/${version}/LICENSE`;
  return `${packages}\n\n${'-'.repeat(80)}\n\nNode.js ${version}\n\n${text}\n`;
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
