/** Where a process keeps what is to outlive it, when that belongs to no database. */

import { delimiter, join } from 'node:path';

/** The last resort, and the place that deployments mount a volume for. */
export const DEFAULT_STATE_DIRECTORY = '/var/lib/litestream';

/**
 * Where state may be kept, in order: systemd's `$STATE_DIRECTORY`, `$XDG_STATE_HOME/litestream`, /var/lib/litestream.
 * Empty and relative values count as not set.
 */
export function stateDirectories(env: Readonly<Record<string, string | undefined>>): string[] {
  const home = env['XDG_STATE_HOME'];
  const named = [
    ...(env['STATE_DIRECTORY'] ?? '').split(delimiter),
    home === undefined || home === '' ? '' : join(home, 'litestream'),
  ];
  return [...new Set([...named.filter((path) => path.startsWith('/')), DEFAULT_STATE_DIRECTORY])];
}
