/** Where the real v0.3.13 binary is: the npm package carries it, one sub-package a platform. */

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

/** Absolute path of the v0.3.13 executable. Throws when the package has none for this platform. */
export function oracle(): string {
  const name = `@flydotio/litestream-${process.platform}-${process.arch}`;
  return join(dirname(require.resolve(`${name}/litestream`)), 'litestream');
}
