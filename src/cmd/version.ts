/** `litestream version`. */

import { readFileSync } from 'node:fs';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';

/** The version of this package, with a `v` in front. */
export function packageVersion(): string {
  const path = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(path, 'utf8')) as { version: string };
  return `v${version}`;
}

export const command: Command = defineCommand({
  name: 'version',
  description: 'Prints the version.',
  forms: [''],
  flags: {},
  run(context) {
    context.print(`${packageVersion()}\n`);
    return Promise.resolve(0);
  },
});
