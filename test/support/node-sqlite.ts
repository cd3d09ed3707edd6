/** A Node.js with node:sqlite: tests run the program, and its SQLite driver, on it when their own has none. */

import { execFileSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../src/base/errors.ts';
import { chooseDriver } from '../../src/sqlite/driver.ts';

export type FoundNode =
  | { readonly path: string; readonly missing?: never }
  /** Why there is none, for the name of what is skipped. */
  | { readonly path?: never; readonly missing: string };

const MODULES = fileURLToPath(new URL('../../node_modules/', import.meta.url));

/** The one that `LITESTREAM_NODE` names, else the one that runs this, else the development dependency. */
export function findNodeSqlite(): FoundNode {
  const named = process.env['LITESTREAM_NODE'];
  if (named !== undefined) return { path: named };
  try {
    chooseDriver('node');
    return { path: process.execPath };
  } catch {
    return developmentNode();
  }
}

/** There is one package a platform, and we have that of one of them. */
function developmentNode(): FoundNode {
  const host = `${process.platform}-${process.arch}`;
  try {
    // The folder itself: node_modules may be a link.
    const folder = realpathSync(join(MODULES, `node-${host}`));
    const path = join(folder, 'node_modules', `node-${host}`, 'bin', 'node');
    execFileSync(path, ['--version'], { stdio: ['ignore', 'pipe', 'pipe'] });
    return { path };
  } catch (error) {
    return {
      missing: `Node.js ${process.version} has no node:sqlite that can be used, and there is no other for ${host}: ${messageOf(error).split('\n', 1)[0] ?? ''}`,
    };
  }
}
