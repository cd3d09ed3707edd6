/** `litestream databases`: what the config file names. Contacts no replica. */

import { LitestreamError } from '../base/errors.ts';
import { CONFIG_FLAGS, JSON_FLAG, defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { printRows } from './listing.ts';
import { readConfig } from './target.ts';

interface DatabaseRow {
  readonly path: string;
  readonly replicas: readonly string[];
}

export const command: Command = defineCommand({
  name: 'databases',
  description: 'Lists the databases of the config file and the names of their replicas.',
  forms: ['[flags]'],
  flags: { ...CONFIG_FLAGS, ...JSON_FLAG },
  async run(context, { flags, positionals }) {
    if (flags.json === true) context.output = 'json';
    if (positionals.length > 0) throw new LitestreamError('usage', 'too many arguments');
    const { databases } = await readConfig(context, flags);
    const rows = databases.map(({ path, replicas }): DatabaseRow => ({
      path,
      replicas: replicas.map(({ name }) => name),
    }));
    printRows(
      context,
      [{ header: 'path' }, { header: 'replicas', format: (row) => row.replicas.join(',') }],
      rows,
    );
    return 0;
  },
});
