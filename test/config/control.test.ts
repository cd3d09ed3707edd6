/** The keys of the control socket and of the heartbeat. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/config.ts';
import { withTempDir } from '../support/process.ts';

async function load(text: string): Promise<Config> {
  return withTempDir(async (dir) => {
    const path = join(dir, 'c.yml');
    await fs.writeFile(path, text);
    return loadConfig(path, {
      expandEnv: true,
      env: { PING: 'https://h.example/ping?token=secret' },
      cwd: dir,
    });
  });
}

describe('socket', () => {
  it.each([
    ['', { enabled: true, path: undefined, permissions: 0o600 }],
    ['socket: {enabled: false}', { enabled: false, path: undefined, permissions: 0o600 }],
    [
      'socket: {path: /run/l.sock, permissions: 0660}',
      { enabled: true, path: '/run/l.sock', permissions: 0o660 },
    ],
    ['socket: {permissions: "0o660"}', { enabled: true, path: undefined, permissions: 0o660 }],
  ])('%s', async (text, expected) => {
    expect((await load(text)).socket).toEqual(expected);
  });

  it.each(['rw', '0999', '12345'])('permissions %s are refused, with the place', async (permissions) => {
    await expect(load(`socket:\n  permissions: ${permissions}\n`)).rejects.toThrow(
      /permissions must be three octal digits.*\n.*c\.yml:2:16/,
    );
  });
});

describe('heartbeat', () => {
  it('has an interval of five minutes unless told otherwise', async () => {
    const url = 'https://h.example/ping?token=secret';
    expect((await load('heartbeat-url: $PING')).heartbeat).toEqual({ url, intervalMs: 300_000 });
    expect((await load('heartbeat-url: $PING\nheartbeat-interval: 1m')).heartbeat).toEqual({
      url,
      intervalMs: 60_000,
    });
    expect((await load('heartbeat-interval: 1m')).heartbeat).toBeUndefined();
  });

  it.each([
    ['heartbeat-url: ftp://user:secret@h', /heartbeat-url must be a url of http or https\n/],
    ['heartbeat-url: $PING\nheartbeat-interval: 0s', /heartbeat-interval must be positive, not 0s\n/],
  ])('%s', async (text, message) => {
    const error: unknown = await load(text).catch((thrown: unknown) => thrown);
    expect(String(error)).toMatch(message);
    expect(String(error)).not.toContain('secret');
  });
});
