/** Debian's OpenSSH server, as the user who runs the tests, with its own settings, host keys and port. */

import { execFile } from 'node:child_process';
import { existsSync, promises as fs } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePorts, startProcess } from './server-process.ts';
import type { RunningServer } from './server-process.ts';

export interface SftpEndpoint {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Takes this key only; no password. */
  readonly keyPath: string;
  /** The same key, encrypted with `passphrase`. */
  readonly encryptedKeyPath: string;
  readonly passphrase: string;
  /** Public keys of the server, as in known_hosts without the host. */
  readonly hostKeys: { readonly ed25519: string; readonly rsa: string };
  /** Absolute path of a folder on the server, there and empty. */
  readonly folder: string;
}

const run = promisify(execFile);
const SSHD = '/usr/sbin/sshd';
/** Where sshd confines its unprivileged part; the package's service makes it at each boot. */
const CONFINEMENT = '/run/sshd';

/**
 * @param sftpFlags - of internal-sftp, for example `-R`, with which nothing can be written
 * @throws where there is no sshd: the Debian package openssh-server has it.
 */
export async function startSshd(sftpFlags = ''): Promise<RunningServer<SftpEndpoint>> {
  if (!existsSync(SSHD)) {
    throw new Error(`${SSHD} is missing: apt-get install --no-install-recommends openssh-server`);
  }
  if (process.getuid?.() === 0) await fs.mkdir(CONFINEMENT, { recursive: true, mode: 0o755 });
  const home = await fs.mkdtemp(join(tmpdir(), 'sshd-'));
  try {
    const [port] = await freePorts(1);
    const endpoint = await prepare(home, port!, sftpFlags);
    const server = await startProcess({
      file: SSHD,
      args: ['-D', '-e', '-f', join(home, 'sshd_config')],
      ready: (output) => output.includes('Server listening on'),
    });
    const stop = async (): Promise<void> => {
      await server.stop();
      await fs.rm(home, { recursive: true, force: true });
    };
    return { endpoint, stop };
  } catch (error) {
    await fs.rm(home, { recursive: true, force: true });
    throw error;
  }
}

async function prepare(home: string, port: number, sftpFlags: string): Promise<SftpEndpoint> {
  const passphrase = 'opens the test key';
  const folder = join(home, 'files');
  await fs.mkdir(folder);
  await makeKey(join(home, 'host_ed25519'), 'ed25519', '');
  await makeKey(join(home, 'host_rsa'), 'rsa', '');
  const keyPath = join(home, 'id');
  const encryptedKeyPath = join(home, 'id_encrypted');
  await makeKey(keyPath, 'ed25519', '');
  await fs.copyFile(keyPath, encryptedKeyPath);
  await run('ssh-keygen', ['-q', '-p', '-P', '', '-N', passphrase, '-f', encryptedKeyPath]);
  await fs.copyFile(`${keyPath}.pub`, join(home, 'authorized_keys'));
  await fs.writeFile(
    join(home, 'sshd_config'),
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${home}/host_ed25519`,
      `HostKey ${home}/host_rsa`,
      `AuthorizedKeysFile ${home}/authorized_keys`,
      `PidFile ${home}/pid`,
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'UsePAM no',
      'StrictModes no',
      // Tests open many connections at once.
      'MaxStartups 1000',
      'Subsystem sftp internal-sftp',
      `ForceCommand internal-sftp -u 0022 ${sftpFlags}`,
      '',
    ].join('\n'),
  );
  const { username: user } = userInfo();
  const publicKey = async (name: string): Promise<string> =>
    (await fs.readFile(join(home, `${name}.pub`), 'utf8')).split(' ', 2).join(' ');
  const hostKeys = { ed25519: await publicKey('host_ed25519'), rsa: await publicKey('host_rsa') };
  return { host: '127.0.0.1', port, user, keyPath, encryptedKeyPath, passphrase, hostKeys, folder };
}

async function makeKey(path: string, type: 'ed25519' | 'rsa', passphrase: string): Promise<void> {
  await run('ssh-keygen', ['-q', '-t', type, '-N', passphrase, '-C', '', '-f', path]);
}
