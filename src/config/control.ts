/** The keys of the control socket and of the heartbeat. */

import { formatDuration } from '../base/duration.ts';
import type { HeartbeatOptions, SocketOptions } from './config.ts';
import type { Section } from './decode.ts';
import { expandPath, type Surroundings } from './paths.ts';

type Fail = (message: string, offset: number) => Error;

export const SOCKET_DEFAULTS: SocketOptions = { enabled: true, path: undefined, permissions: 0o600 };

/** Throws what `fail` makes of the first problem. */
export function resolveSocket(section: Section | undefined, around: Surroundings, fail: Fail): SocketOptions {
  if (section === undefined) return SOCKET_DEFAULTS;
  const path = section.string('path');
  const permissions = section.string('permissions');
  if (permissions !== '' && !/^0?o?[0-7]{3}$/.test(permissions)) {
    throw fail(
      `permissions must be three octal digits such as 0600, not ${permissions}`,
      section.startOf('permissions'),
    );
  }
  return {
    enabled: section.bool('enabled') ?? SOCKET_DEFAULTS.enabled,
    path: path === '' ? undefined : expandPath(path, around),
    permissions: permissions === '' ? SOCKET_DEFAULTS.permissions : parseInt(permissions.slice(-3), 8),
  };
}

/** Undefined without a URL. Throws what `fail` makes of the first problem. */
export function resolveHeartbeat(root: Section, fail: Fail): HeartbeatOptions | undefined {
  const url = root.string('heartbeat-url');
  if (url === '') return undefined;
  // The URL is as good as a password: it is not shown.
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw fail('heartbeat-url must be a url of http or https', root.startOf('heartbeat-url'));
  }
  const intervalMs = root.durationMs('heartbeat-interval');
  if (intervalMs <= 0) {
    const shown = formatDuration(intervalMs);
    throw fail(`heartbeat-interval must be positive, not ${shown}`, root.startOf('heartbeat-interval'));
  }
  return { url, intervalMs };
}
