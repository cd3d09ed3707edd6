/** CommonJS modules, which a driver needs when it is chosen and not before. */

import { createRequire } from 'node:module';
import { join } from 'node:path';

/** A CommonJS bundle has no place of its own. */
const HERE = import.meta.url as string | undefined;

/** As the module that asks would: from beside it, or in a CommonJS bundle from the working directory. */
export function moduleRequire(): NodeJS.Require {
  return createRequire(HERE ?? join(process.cwd(), 'bundle.cjs'));
}
