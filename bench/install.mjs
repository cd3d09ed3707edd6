/** What an installation of the package into an empty folder takes and leaves; needs the npm registry. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from './measure.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PEER_ROOT = process.env['BENCH_PEER'];

/** Ours, and another checkout's if there is one: v0.3.13 is no package of Node.js. */
export async function install({ work, runs }) {
  const roots = { ours: ROOT, ...(PEER_ROOT === undefined ? {} : { oracle: PEER_ROOT }) };
  const samples = { ours: [], oracle: [] };
  for (const [name, root] of Object.entries(roots)) {
    const folder = join(work, `pack-${name}`);
    await fs.mkdir(folder);
    await run(['npm', 'pack', '--ignore-scripts', '--pack-destination', folder, root]);
    const [tarball] = await fs.readdir(folder);
    for (let i = -1; i < runs; i++) {
      const sample = await installed(join(folder, tarball), join(work, 'installed'));
      // The first one fills npm's cache.
      if (i >= 0) samples[name].push(sample);
    }
  }
  const row = (title, unit, read) => ({
    title: `install: ${title}`,
    unit,
    ours: samples.ours.map(read),
    oracle: samples.oracle.map(read),
  });
  return [
    row('time, from a warm cache', 's', ({ seconds }) => seconds),
    row('packages', '', ({ packages }) => packages),
    row('size', 'MB', ({ bytes }) => bytes / 2 ** 20),
  ];
}

async function installed(tarball, folder) {
  await fs.mkdir(folder);
  const { wallMs } = await run(['npm', 'install', '--prefix', folder, tarball]);
  const modules = join(folder, 'node_modules');
  const { packages } = JSON.parse(await fs.readFile(join(modules, '.package-lock.json'), 'utf8'));
  let bytes = 0;
  for (const entry of await fs.readdir(modules, { recursive: true, withFileTypes: true })) {
    // What the disk gives to a file, in whole blocks.
    if (entry.isFile()) bytes += (await fs.stat(join(entry.parentPath, entry.name))).blocks * 512;
  }
  await fs.rm(folder, { recursive: true });
  return { seconds: wallMs / 1000, packages: Object.keys(packages).length, bytes };
}
