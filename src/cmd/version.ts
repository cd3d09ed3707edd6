/** `litestream version`. */

import { readFileSync } from 'node:fs';
import { asset } from '../base/entry-point.ts';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';

/** The version of this package, with a `v` in front. */
export function packageVersion(): string {
  const path = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(asset('package.json') ?? readFileSync(path, 'utf8')) as { version: string };
  return `v${version}`;
}

/** A package whose code is part of this program. */
interface BundledPackage {
  readonly name: string;
  readonly version: string;
  readonly license: string;
}

/** What bundle.mjs wrote beside the program. */
function bundledPackages(): BundledPackage[] {
  const path = new URL('./packages.json', import.meta.url);
  return JSON.parse(asset('packages.json') ?? readFileSync(path, 'utf8')) as BundledPackage[];
}

export const command: Command = defineCommand({
  name: 'version',
  description: 'Prints the version.',
  forms: ['[flags]'],
  flags: {
    json: {
      kind: 'bool',
      help:
        'Prints a JSON object with the version and the packages that are part of this program,\n' +
        'each with its own version and license.',
    },
  },
  run(context, { flags }) {
    const version = packageVersion();
    context.print(
      flags.json === true
        ? `${JSON.stringify({ version, packages: bundledPackages() }, null, 2)}\n`
        : `${version}\n`,
    );
    return Promise.resolve(0);
  },
});
