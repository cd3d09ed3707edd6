/** Debian packages without an installation: fetched and unpacked into a cache folder, nothing of the system changes. */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where everything that is fetched stays between runs; git ignores it. */
export const CACHE: string = fileURLToPath(new URL('../../.cache/servers/', import.meta.url));

/**
 * The folder in which `packages` are unpacked, fetched when it is not there yet. Their dependencies are not looked for:
 * name all that a Debian without them lacks. No root needed, for the lists of packages are private, too.
 * @throws where there is no apt, no network, or a package is not to be had
 */
export async function unpackedPackages(name: string, packages: readonly string[]): Promise<string> {
  const release = await fs.readFile('/etc/os-release', 'utf8').catch(() => '');
  const hash = createHash('sha256')
    .update([release, process.arch, ...packages].join('\n'))
    .digest('hex');
  const folder = join(CACHE, `${name}-${hash.slice(0, 12)}`);
  if (existsSync(folder)) return folder;
  await fs.mkdir(CACHE, { recursive: true });
  const work = await fs.mkdtemp(join(CACHE, `${name}-fetching-`));
  try {
    await fetchInto(work, packages);
    // Only what is whole gets the name; when another run was faster, its is as good.
    await fs.rename(join(work, 'root'), folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await fs.rm(work, { recursive: true, force: true });
  }
  return folder;
}

async function fetchInto(work: string, packages: readonly string[]): Promise<void> {
  const folders = ['lists/partial', 'archives/partial', 'debs', 'root'];
  for (const folder of folders) await fs.mkdir(join(work, folder), { recursive: true });
  const settings = [`Dir::State::Lists=${work}/lists`, `Dir::Cache=${work}`, 'APT::Sandbox::User=root'];
  const apt = async (args: readonly string[]): Promise<void> => {
    const options = settings.flatMap((setting) => ['-o', setting]);
    await run('apt-get', [...options, '-qq', ...args], { cwd: join(work, 'debs'), timeout: 300_000 });
  };
  await apt(['update']);
  await apt(['download', ...packages]);
  for (const deb of await fs.readdir(join(work, 'debs'))) {
    await run('dpkg-deb', ['-x', join(work, 'debs', deb), join(work, 'root')]);
  }
}
