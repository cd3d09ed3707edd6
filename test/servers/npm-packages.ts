/** The servers that come from npm: package.json of this folder, apart from the root's because they are large. */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));

/** Installs what package-lock.json says, unless that is what is there. The folder of the modules. */
export async function installedModules(): Promise<string> {
  const modules = join(FOLDER, 'node_modules');
  const stamp = join(modules, '.installed');
  const lock = createHash('sha256')
    .update(await fs.readFile(join(FOLDER, 'package-lock.json')))
    .digest('hex');
  if ((await fs.readFile(stamp, 'utf8').catch(() => '')) === lock) return modules;
  // No script of a package is needed, and many would fetch more. Azurite asks for a newer Node than it needs.
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  await promisify(execFile)('npm', args, { cwd: FOLDER, timeout: 600_000 });
  await fs.writeFile(stamp, lock);
  return modules;
}
