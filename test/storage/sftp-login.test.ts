import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect, promisify } from 'node:util';
import { openSftpStore } from '../../src/storage/sftp/sftp-store.ts';
import { parseHostKey } from '../../src/storage/sftp/host-key.ts';
import { findKnownHost, rememberHost } from '../../src/storage/sftp/known-hosts.ts';
import type { SftpStoreConfig } from '../../src/storage/store-config.ts';
import { SftpServer, makeKeyPair } from '../support/sftp-server.ts';
import type { SftpServerOptions } from '../support/sftp-server.ts';
import { until } from '../support/process.ts';
import { readAll } from './contract.ts';
import { configFor } from './sftp-support.ts';

const run = promisify(execFile);
const ended: (() => Promise<unknown>)[] = [];
let state: string;
/** Where keys are remembered. */
const known = (): string => join(state, 'known_hosts');
beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), 'sftp-state-'));
  ended.push(() => rm(state, { recursive: true }));
  vi.stubEnv('STATE_DIRECTORY', state);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const end of ended.splice(0).reverse()) await end();
});

async function start(options: SftpServerOptions = {}): Promise<SftpServer> {
  const server = await SftpServer.start(options);
  ended.push(() => server.close());
  return server;
}

/** Connects and lists; gives the failure, if it fails, and what was warned of. */
async function tryOut(
  config: SftpStoreConfig,
  timeouts: { connectMs?: number } = {},
): Promise<{ error: unknown; warnings: string[] }> {
  const warnings: string[] = [];
  const store = openSftpStore(config, { warn: (message) => warnings.push(message) }, timeouts);
  try {
    return {
      error: await readAll(store.list('')).then(
        () => undefined,
        (error: unknown) => error,
      ),
      warnings,
    };
  } finally {
    await store.close();
  }
}

async function keyFile(passphrase?: string): Promise<{ path: string; line: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'sftp-key-'));
  ended.push(() => rm(folder, { recursive: true }));
  const { private: text, public: line } = makeKeyPair('ed25519', passphrase);
  const path = join(folder, 'id');
  await writeFile(path, text, { mode: 0o600 });
  return { path, line };
}

describe('login', () => {
  it.each(['password', 'keyboard-interactive'] as const)('with a password, by %s', async (passwordBy) => {
    const server = await start({ passwordBy });
    expect((await tryOut(configFor(server))).error).toBeUndefined();
    expect(server.logins).toEqual([passwordBy]);
    const { error } = await tryOut(configFor(server, { password: 'wrong one' }));
    expect(error).toMatchObject({ code: 'permission' });
    expect(String(error)).toMatch(
      /refused the login: check user, password and key-path \(offered password, keyboard-interactive; it takes /,
    );
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('wrong one');
  });

  it('with a key, plain and encrypted, before a password', async () => {
    const plain = await keyFile();
    const secret = await keyFile('open sesame');
    const server = await start({ authorizedKeys: [plain.line, secret.line] });
    const withKey = (keyPath: string, keyPassphrase?: string): SftpStoreConfig =>
      configFor(server, { keyPath, keyPassphrase });
    expect((await tryOut(withKey(plain.path))).error).toBeUndefined();
    expect((await tryOut(withKey(secret.path, 'open sesame'))).error).toBeUndefined();
    expect(server.logins).toEqual(['publickey', 'publickey']);
    const stranger = await keyFile();
    expect((await tryOut(withKey(stranger.path))).error).toBeUndefined();
    expect(server.logins.at(-1)).toBe('password');
  });

  it('offers nothing that the server said it does not take', async () => {
    const stranger = await keyFile();
    const server = await start({ passwordBy: 'keyboard-interactive' });
    expect((await tryOut(configFor(server, { keyPath: stranger.path }))).error).toBeUndefined();
    expect([server.refusals, server.logins]).toEqual([['publickey'], ['keyboard-interactive']]);
  });

  it('says what is wrong with a key file', async () => {
    const secret = await keyFile('open sesame');
    const server = await start({ authorizedKeys: [secret.line] });
    const failing = async (keyPath: string, keyPassphrase?: string): Promise<unknown> =>
      (await tryOut(configFor(server, { password: undefined, keyPath, keyPassphrase }))).error;
    const missing = await failing(secret.path);
    expect(missing).toMatchObject({ code: 'permission' });
    expect(String(missing)).toContain(`the private key ${secret.path} is encrypted: set key-passphrase`);
    const wrong = await failing(secret.path, 'not the phrase');
    expect(wrong).toMatchObject({ code: 'permission' });
    expect(String(wrong)).toContain(`cannot decrypt the private key ${secret.path}: check key-passphrase`);
    expect(inspect(wrong, { depth: 10 })).not.toContain('not the phrase');
    const absent = await failing('/no/such/key');
    // A missing key file must never be taken for a missing object.
    expect(absent).toMatchObject({ code: 'config' });
    expect(String(absent)).toContain('cannot read the private key /no/such/key: check key-path');
    await writeFile(`${secret.path}.pub`, secret.line);
    expect(String(await failing(`${secret.path}.pub`))).toContain('holds a public key: name the private one');
    await writeFile(`${secret.path}.txt`, 'nonsense');
    expect(String(await failing(`${secret.path}.txt`))).toContain('is no private key that can be used');
    expect(server.logins).toEqual([]);
  });

  it('with the agent, and says so when there is none', async () => {
    const key = await keyFile();
    const server = await start({ authorizedKeys: [key.line] });
    const config = configFor(server, { password: undefined });
    vi.stubEnv('SSH_AUTH_SOCK', '');
    expect((await tryOut(config)).error).toMatchObject({ code: 'config' });
    vi.stubEnv('SSH_AUTH_SOCK', '/no/such/agent');
    const { error } = await tryOut(config);
    expect(error).toMatchObject({ code: 'permission' });
    expect(String(error)).toMatch(/offered agent.*the agent failed: Failed to connect to agent/);
    const socket = `${key.path}.agent`;
    const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
    const exited = new Promise((resolve) => agent.on('exit', resolve));
    ended.push(() => (agent.kill(), exited));
    const env = { ...process.env, SSH_AUTH_SOCK: socket };
    await until(() =>
      run('ssh-add', ['-q', key.path], { env }).then(
        () => true,
        () => false,
      ),
    );
    vi.stubEnv('SSH_AUTH_SOCK', socket);
    expect((await tryOut(config)).error).toBeUndefined();
    expect(server.logins).toEqual(['publickey']);
  });
});

describe('host key', () => {
  it.each(['ed25519', 'ecdsa', 'rsa'] as const)(
    'of type %s is pinned by line and by fingerprint',
    async (hostKeyType) => {
      const server = await start({ hostKeyType });
      const first = await tryOut(configFor(server, { hostKey: undefined }));
      expect(first.error).toBeUndefined();
      expect(first.warnings).toHaveLength(1);
      expect(first.warnings[0]).toContain(
        `is not checked: it is ${server.fingerprint}, which is remembered in ${known()}:`,
      );
      const line = /"host-key: (.*)"$/.exec(first.warnings[0]!)?.[1];
      expect(line?.split(' ')[1]).toBe(server.hostKey.toString('base64'));
      // Once is enough.
      expect((await tryOut(configFor(server, { hostKey: undefined }))).warnings).toEqual([]);
      for (const hostKey of [line, `${line} admin@host`, `backup.example ${line}`, server.fingerprint]) {
        expect(await tryOut(configFor(server, { hostKey }))).toEqual({ error: undefined, warnings: [] });
      }
    },
  );

  it('that differs is refused before any secret is sent, with both fingerprints', async () => {
    const server = await start();
    const other = await start({ hostKeyType: 'rsa' });
    const lines = [other.fingerprint, `ssh-rsa ${other.hostKey.toString('base64')}`];
    for (const hostKey of lines) {
      const { error } = await tryOut(configFor(server, { hostKey }));
      expect(error).toMatchObject({ code: 'permission' });
      expect(String(error)).toContain(`shows the host key ssh-ed25519 ${server.fingerprint}`);
      expect(String(error)).toContain(other.fingerprint);
    }
    expect([...server.logins, ...server.refusals]).toEqual([]);
  });

  it('that is not pinned is remembered, and a later one refused before any secret is sent', async () => {
    const [server, other] = [await start(), await start({ hostKeyType: 'rsa' })];
    const at = (one: SftpServer): string => `[127.0.0.1]:${one.port} `;
    expect((await tryOut(configFor(server, { hostKey: undefined }))).error).toBeUndefined();
    const line = await readFile(known(), 'utf8');
    expect(line).toBe(`${at(server)}ssh-ed25519 ${server.hostKey.toString('base64')}\n`);
    expect((await stat(known())).mode & 0o777).toBe(0o600);
    // As if the other one had taken its place.
    await writeFile(known(), line.replace(at(server), at(other)));
    const { error } = await tryOut(configFor(other, { hostKey: undefined }));
    expect(error).toMatchObject({ code: 'permission' });
    expect(String(error)).toContain(
      `shows the host key ssh-rsa ${other.fingerprint}, but ${known()} remembers`,
    );
    expect(String(error)).toContain(
      `${server.fingerprint}: if the server was given a new key, remove its line`,
    );
    expect([...other.logins, ...other.refusals]).toEqual([]);
    // What the config says counts more.
    expect((await tryOut(configFor(other, { hostKey: other.fingerprint }))).error).toBeUndefined();
  });

  it('is not remembered of a server that refuses the login', async () => {
    const server = await start();
    const { error } = await tryOut(configFor(server, { hostKey: undefined, password: 'wrong' }));
    expect(error).toMatchObject({ code: 'permission' });
    await expect(readFile(known())).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('is remembered in the first place that can be written, if there is one', async () => {
    const key = Buffer.from((await start()).hostKey);
    expect(await rememberHost('[h]:22', key, ['/proc/no/known_hosts', known()])).toEqual({ path: known() });
    expect(await findKnownHost('[h]:22', ['/proc/no/known_hosts', known()])).toMatchObject({ path: known() });
    expect(await findKnownHost('[h]:2222', [known()])).toBeUndefined();
    expect(await rememberHost('[h]:22', key, ['/proc/no/known_hosts'])).toEqual({
      reason: expect.stringContaining('ENOENT') as string,
    });
    await writeFile(known(), '[h]:22 ssh-ed255');
    await expect(findKnownHost('[h]:22', [known()])).rejects.toMatchObject({ code: 'config' });
  });

  it('that is no key is a matter of the config', () => {
    for (const text of ['', 'ssh-ed25519', 'SHA256:short', 'MD5:00:11', 'AAAA']) {
      expect(() => parseHostKey(text)).toThrow(/is no key: give the server's public key/);
    }
  });
});

describe('a server that cannot be used', () => {
  it('is named when nobody listens, with advice', async () => {
    const server = await start();
    const config = configFor(server);
    await server.close();
    ended.pop();
    const { error } = await tryOut(config);
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(String(error)).toMatch(
      /list .*cannot reach backup@127.0.0.1:\d+: check host, port and the network \(.*ECONNREFUSED/,
    );
    const unknown = await tryOut({ ...config, host: 'no-such-host.invalid' });
    expect(unknown.error).toMatchObject({ code: 'unavailable' });
  });

  it('is given up when it says nothing', async () => {
    const silent = createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    ended.push(() => new Promise((resolve) => silent.close(resolve)));
    const { port } = silent.address() as AddressInfo;
    const config: SftpStoreConfig = {
      type: 'sftp',
      host: '127.0.0.1',
      port,
      user: 'u',
      password: 'p',
      path: '/',
    };
    const { error } = await tryOut(config, { connectMs: 200 });
    expect(error).toMatchObject({ code: 'timeout' });
    expect(String(error)).toContain('no login within 0.2 s; check host, port, firewall');
    // Closing does not wait for it.
    const store = openSftpStore(config);
    const failure = readAll(store.list('')).catch((reason: unknown) => reason);
    await store.close();
    expect(await failure).toMatchObject({ code: 'aborted' });
  });

  it('is told from one that speaks no SSH, or no SFTP', async () => {
    const web = createServer((socket) => socket.resume().end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(
      0,
      '127.0.0.1',
    );
    await new Promise((resolve) => web.once('listening', resolve));
    ended.push(() => new Promise((resolve) => web.close(resolve)));
    const { port } = web.address() as AddressInfo;
    const server = await start({ subsystem: false });
    const other = await tryOut(configFor(server, { port }));
    expect(other.error).toMatchObject({ code: 'unavailable' });
    expect(String(other.error)).toContain(`127.0.0.1:${port}: check host, port`);
    const shell = await tryOut(configFor(server));
    expect(shell.error).toMatchObject({ code: 'unsupported' });
    expect(String(shell.error)).toContain('offers no SFTP: enable the sftp subsystem');
  });
});
