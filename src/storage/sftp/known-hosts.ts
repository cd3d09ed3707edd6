/**
 * Keys of servers that no config pins, remembered from the first login on, as ssh does it: whoever takes a server's place
 * later is refused. Kept with the state of this user, since commands and `replicate` are to know the same.
 */

import { appendFile, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { makeDirectories } from '../../base/durable-file.ts';
import { LitestreamError, messageOf } from '../../base/errors.ts';
import { stateDirectories } from '../../base/state-directories.ts';
import { type HostKeyPin, hostKeyLine, parseHostKey } from './host-key.ts';

const FILE = 'known_hosts';

export interface KnownHost {
  readonly pin: HostKeyPin;
  /** The file that says so. */
  readonly path: string;
}

/** In the order in which a place is looked for. */
function places(): string[] {
  const folders = [...stateDirectories(process.env), join(homedir(), '.local/state/litestream')];
  return [...new Set(folders)].map((folder) => join(folder, FILE));
}

/** `[HOST]:PORT`, as OpenSSH writes it. */
export function hostName(host: string, port: number): string {
  return `[${host.toLowerCase()}]:${port}`;
}

/**
 * What is remembered of a server; undefined when it is seen for the first time, or the files cannot be read.
 * @throws LitestreamError 'config' when the line of the server is damaged
 */
export async function findKnownHost(
  name: string,
  paths: readonly string[] = places(),
): Promise<KnownHost | undefined> {
  for (const path of paths) {
    const text = await readFile(path, 'utf8').catch(() => '');
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    if (line !== undefined) return { pin: pinOf(line, path), path };
  }
  return undefined;
}

function pinOf(line: string, path: string): HostKeyPin {
  try {
    return parseHostKey(line);
  } catch (cause) {
    throw new LitestreamError('config', `${path} holds no key in "${line}": remove that line`, { cause });
  }
}

/**
 * Remembers the key of a server, in the first place that can be written.
 * @returns the file, or why there is none
 */
export async function rememberHost(
  name: string,
  key: Buffer,
  paths: readonly string[] = places(),
): Promise<{ readonly path: string } | { readonly reason: string }> {
  let reason = '';
  for (const path of paths) {
    try {
      await makeDirectories(dirname(path), 0o700);
      await appendFile(path, `${name} ${hostKeyLine(key)}\n`, { mode: 0o600 });
      return { path };
    } catch (error) {
      reason = messageOf(error);
    }
  }
  return { reason };
}
