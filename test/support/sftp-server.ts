/**
 * An SFTP server for tests, in this process, on a loopback port of the system's choice, with a temporary folder as its
 * root. It is built on ssh2's server and can be told to fail. It is ours: no independent proof of compatibility.
 */

import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rename, rm, rmdir, stat, lstat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, normalize } from 'node:path';
import ssh2 from 'ssh2';
import type { FileEntry, Attributes, AuthContext, Connection, SFTPWrapper, Server } from 'ssh2';
import { systemCode } from '../../src/base/errors.ts';

export type SftpOperation =
  | 'OPEN'
  | 'CLOSE'
  | 'READ'
  | 'WRITE'
  | 'FSTAT'
  | 'STAT'
  | 'OPENDIR'
  | 'READDIR'
  | 'REMOVE'
  | 'MKDIR'
  | 'RMDIR'
  | 'RENAME'
  | 'posix-rename'
  | 'fsync'
  | 'statvfs';

export interface SftpRequest {
  readonly operation: SftpOperation;
  /** Below the server's root; empty where a request names a handle. */
  readonly path: string;
}

/** How the server treats one request. */
export type SftpFault =
  | 'pass'
  /** Breaks the connection instead of answering; nothing is done. */
  | 'drop'
  /** Never answers, nor does it answer anything else on this connection. */
  | 'stall'
  /** Does what was asked, then breaks the connection: the answer is lost. */
  | 'lose-answer'
  /** Answers this status. */
  | { readonly status: number; readonly message?: string };

export interface SftpServerOptions {
  /** OpenSSH's extensions: replacing renames, fsync, statvfs. True by default. */
  readonly extensions?: boolean;
  /** How passwords are asked for. */
  readonly passwordBy?: 'password' | 'keyboard-interactive';
  /** Public keys, as in authorized_keys, that may log in. */
  readonly authorizedKeys?: readonly string[];
  readonly hostKeyType?: 'ed25519' | 'ecdsa' | 'rsa';
  /** Whether there is an SFTP subsystem at all. */
  readonly subsystem?: boolean;
  /** Delay of each answer in milliseconds; requests overlap. */
  readonly latencyMs?: number;
}

/** What statvfs answers. */
export interface Space {
  readonly freeBytes: number;
  readonly freeFiles: number;
  readonly readOnly: boolean;
}

interface Folder {
  readonly path: string;
  names: string[] | undefined;
  /** Batches that were given. */
  batches: number;
}

const STATUS = { ok: 0, endOfFile: 1, noSuchFile: 2, permissionDenied: 3, failure: 4, unsupported: 8 };
const EXTENSIONS: readonly (readonly [string, string])[] = [
  ['posix-rename@openssh.com', '1'],
  ['fsync@openssh.com', '1'],
  ['statvfs@openssh.com', '2'],
];

/** A key pair in OpenSSH's format. @param passphrase - encrypts the private one. */
export function makeKeyPair(
  type: 'ed25519' | 'ecdsa' | 'rsa',
  passphrase?: string,
): { private: string; public: string } {
  const size = { ed25519: 256, ecdsa: 256, rsa: 2048 }[type];
  const encryption = passphrase === undefined ? {} : { passphrase, cipher: 'aes256-ctr', rounds: 4 };
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync(
      type as 'rsa',
      { bits: size, ...encryption } as { bits: number },
    );
    // About one in four hundred that the library makes is malformed: ssh-keygen refuses it as well.
    if (!(ssh2.utils.parseKey(pair.private, passphrase) instanceof Error)) return pair;
  }
}

export class SftpServer {
  readonly user = 'backup';
  readonly password = 'test password with "quotes" & spaces';
  /** The folder that is the server's root. */
  readonly root: string;
  /** Public key as SSH sends it. */
  readonly hostKey: Buffer;
  /** Every request, in order. */
  readonly requests: SftpRequest[] = [];
  /** Logins that were let in, and those that were refused, by method. */
  readonly logins: string[] = [];
  readonly refusals: string[] = [];
  /** Decides on each request before it is served. */
  onRequest: (request: SftpRequest) => SftpFault = () => 'pass';
  /** Lies about folders: gives each batch of entries of a folder, undefined at its end. */
  inventedEntries: ((folder: string, batch: number) => FileEntry[] | undefined) | undefined;
  space: Space = { freeBytes: 1e9, freeFiles: 1e6, readOnly: false };
  /** Bytes that one read gives at most. */
  mostBytesRead = Infinity;
  /** Requests that waited for their answer at the same time, at most. */
  mostWaiting = 0;
  /** Requests that wait for their answer. */
  waiting = 0;
  /** Handles that are open. */
  openHandles = 0;
  readonly #options: SftpServerOptions;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();

  private constructor(root: string, options: SftpServerOptions) {
    this.root = root;
    this.#options = options;
    const { hostKeyType = 'ed25519' } = options;
    const made = makeKeyPair(hostKeyType);
    this.hostKey = Buffer.from(made.public.split(' ')[1] ?? '', 'base64');
    this.#server = new ssh2.Server({ hostKeys: [made.private] }, (connection) => this.#accept(connection));
  }

  static async start(options: SftpServerOptions = {}): Promise<SftpServer> {
    const server = new SftpServer(await mkdtemp(join(tmpdir(), 'sftp-server-')), options);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', reject);
      server.#server.listen(0, '127.0.0.1', () => resolve());
    });
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get fingerprint(): string {
    return `SHA256:${createHash('sha256').update(this.hostKey).digest('base64').replace(/=+$/, '')}`;
  }

  /** How often each operation was asked for since the start or the last clearRequests(). */
  counts(): Partial<Record<SftpOperation, number>> {
    const counts: Partial<Record<SftpOperation, number>> = {};
    for (const { operation } of this.requests) counts[operation] = (counts[operation] ?? 0) + 1;
    return counts;
  }

  clearRequests(): void {
    this.requests.length = 0;
  }

  /** Breaks all connections. */
  drop(): void {
    for (const connection of this.#connections) destroy(connection);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.drop();
    await closed;
    await rm(this.root, { recursive: true, force: true });
  }

  #accept(connection: Connection): void {
    this.#connections.add(connection);
    // Else each answer waits for the client's delayed acknowledgement of the one before.
    socketOf(connection).setNoDelay(true);
    connection.on('close', () => this.#connections.delete(connection));
    // Broken connections are a part of the tests.
    connection.on('error', () => undefined);
    connection.on('authentication', (context) => this.#authenticate(context));
    connection.on('session', (accept) => {
      const session = accept();
      if (this.#options.subsystem === false) return;
      session.on('sftp', (acceptSftp) => {
        const sftp = acceptSftp();
        new SftpConversation(this, connection, sftp, this.#options).begin();
      });
    });
  }

  #authenticate(context: AuthContext): void {
    const { passwordBy = 'password', authorizedKeys = [] } = this.#options;
    const methods: ('password' | 'keyboard-interactive' | 'publickey')[] = [passwordBy, 'publickey'];
    const decide = (right: boolean): void => {
      if (right && context.username === this.user) {
        this.logins.push(context.method);
        context.accept();
      } else {
        this.refusals.push(context.method);
        context.reject(methods);
      }
    };
    if (context.method === 'password' && passwordBy === 'password') {
      decide(context.password === this.password);
    } else if (context.method === 'keyboard-interactive' && passwordBy === 'keyboard-interactive') {
      context.prompt([{ prompt: 'Password: ', echo: false }], (answers: string[]) =>
        decide(answers[0] === this.password),
      );
    } else if (context.method === 'publickey') {
      const shown = context.key.data.toString('base64');
      const known = authorizedKeys.find((line) => line.split(' ')[1] === shown);
      const key = known === undefined ? undefined : ssh2.utils.parseKey(known);
      if (key === undefined || key instanceof Error) decide(false);
      // Without a signature, the client only asks whether the key would do.
      else if (context.signature === undefined || context.blob === undefined) context.accept();
      else decide(key.verify(context.blob, context.signature, context.hashAlgo));
    } else {
      decide(false);
    }
  }
}

/** The library has no call for it. */
function socketOf(connection: Connection): Socket {
  return (connection as unknown as { _sock: Socket })._sock;
}

function destroy(connection: Connection): void {
  socketOf(connection).destroy();
}

/** One SFTP channel. */
class SftpConversation {
  readonly #server: SftpServer;
  readonly #connection: Connection;
  readonly #sftp: SFTPWrapper;
  readonly #options: SftpServerOptions;
  readonly #files = new Map<string, FileHandle | Folder>();
  #nextHandle = 0;
  #stalled = false;
  /** Requests are carried out in order, as the protocol demands for those on one file. */
  #last: Promise<void> = Promise.resolve();

  constructor(server: SftpServer, connection: Connection, sftp: SFTPWrapper, options: SftpServerOptions) {
    this.#server = server;
    this.#connection = connection;
    this.#sftp = sftp;
    this.#options = options;
  }

  begin(): void {
    const sftp = this.#sftp;
    if (this.#options.extensions !== false) announce(sftp);
    connectionEnd(this.#connection, () => this.#closeAll());
    sftp.on('error', () => undefined);
    sftp.on('OPEN', (id, path, flags) => this.#on(id, 'OPEN', path, () => this.#open(id, path, flags)));
    sftp.on('CLOSE', (id, handle) => this.#on(id, 'CLOSE', '', () => this.#close(id, handle)));
    sftp.on('READ', (id, handle, offset, length) =>
      this.#on(id, 'READ', '', async () => {
        const buffer = Buffer.alloc(Math.min(length, this.#server.mostBytesRead));
        const { bytesRead } = await this.#file(handle).read(buffer, 0, buffer.length, offset);
        if (bytesRead === 0) this.#status(id, STATUS.endOfFile);
        else sftp.data(id, buffer.subarray(0, bytesRead));
      }),
    );
    sftp.on('WRITE', (id, handle, offset, data) => {
      const copy = Buffer.from(data);
      this.#on(id, 'WRITE', '', async () => {
        await this.#file(handle).write(copy, 0, copy.length, offset);
        this.#status(id, STATUS.ok);
      });
    });
    sftp.on('FSTAT', (id, handle) =>
      this.#on(id, 'FSTAT', '', async () => sftp.attrs(id, attributes(await this.#file(handle).stat()))),
    );
    sftp.on('STAT', (id, path) =>
      this.#on(id, 'STAT', path, async () => sftp.attrs(id, attributes(await stat(this.#local(path))))),
    );
    sftp.on('OPENDIR', (id, path) =>
      this.#on(id, 'OPENDIR', path, async () => {
        const local = this.#local(path);
        const names = this.#server.inventedEntries === undefined ? await readdir(local) : [];
        sftp.handle(id, this.#keep({ path: local, names, batches: 0 }));
      }),
    );
    sftp.on('READDIR', (id, handle) => this.#on(id, 'READDIR', '', () => this.#readFolder(id, handle)));
    const simple = (operation: SftpOperation, id: number, path: string, act: () => Promise<unknown>): void =>
      this.#on(id, operation, path, async () => {
        await act();
        this.#status(id, STATUS.ok);
      });
    sftp.on('REMOVE', (id, path) => simple('REMOVE', id, path, () => unlink(this.#local(path))));
    sftp.on('MKDIR', (id, path) => simple('MKDIR', id, path, () => mkdir(this.#local(path))));
    sftp.on('RMDIR', (id, path) => simple('RMDIR', id, path, () => rmdir(this.#local(path))));
    sftp.on('RENAME', (id, from, to) => simple('RENAME', id, from, () => this.#renameNew(from, to)));
    sftp.on('EXTENDED', (id, name, data) => this.#extended(id, name, Buffer.from(data)));
  }

  #on(id: number, operation: SftpOperation, path: string, act: () => Promise<void>): void {
    if (this.#stalled) return;
    const request = { operation, path: normalize(path) };
    this.#server.requests.push(request);
    const fault = this.#server.onRequest(request);
    if (fault === 'stall') this.#stalled = true;
    if (fault === 'drop') destroy(this.#connection);
    if (fault === 'stall' || fault === 'drop') return;
    const { latencyMs = 0 } = this.#options;
    const due = latencyMs === 0 ? undefined : new Promise((resolve) => setTimeout(resolve, latencyMs));
    this.#server.mostWaiting = Math.max(this.#server.mostWaiting, ++this.#server.waiting);
    this.#last = this.#last.then(async () => {
      await due;
      this.#server.waiting--;
      if (typeof fault === 'object') {
        this.#status(id, fault.status, fault.message);
        return;
      }
      if (fault === 'lose-answer') this.#status = () => destroy(this.#connection);
      try {
        await act();
      } catch (error) {
        this.#status(id, statusOf(error), '');
      }
    });
  }

  #status = (id: number, code: number, message?: string): void => {
    this.#sftp.status(id, code, message);
  };

  async #open(id: number, path: string, flags: number): Promise<void> {
    const text = ssh2.utils.sftp.flagsToString(flags) ?? 'r';
    this.#sftp.handle(id, this.#keep(await open(this.#local(path), text)));
  }

  async #close(id: number, handle: Buffer): Promise<void> {
    const name = handle.toString();
    const file = this.#files.get(name);
    this.#files.delete(name);
    this.#server.openHandles--;
    if (file !== undefined && 'fd' in file) await file.close();
    this.#status(id, STATUS.ok);
  }

  #keep(file: FileHandle | Folder): Buffer {
    const name = `handle-${this.#nextHandle++}`;
    this.#files.set(name, file);
    this.#server.openHandles++;
    return Buffer.from(name);
  }

  #file(handle: Buffer): FileHandle {
    const file = this.#files.get(handle.toString());
    if (file === undefined || !('fd' in file)) throw new Error('no such handle');
    return file;
  }

  async #readFolder(id: number, handle: Buffer): Promise<void> {
    const folder = this.#files.get(handle.toString());
    if (folder === undefined || 'fd' in folder) throw new Error('no such handle');
    if (this.#server.inventedEntries !== undefined) {
      const invented = this.#server.inventedEntries(folder.path, folder.batches++);
      if (invented === undefined) this.#status(id, STATUS.endOfFile);
      else this.#sftp.name(id, invented);
      return;
    }
    const names = folder.names?.splice(0, 100) ?? [];
    if (names.length === 0) {
      this.#status(id, STATUS.endOfFile);
      return;
    }
    const entries = await Promise.all(
      names.map(async (filename) => {
        try {
          const stats = await lstat(join(folder.path, filename));
          return { filename, longname: filename, attrs: attributes(stats) };
        } catch {
          // Gone in the meantime, as it may be in any folder.
          return undefined;
        }
      }),
    );
    const there = entries.filter((entry) => entry !== undefined);
    if (there.length === 0) await this.#readFolder(id, handle);
    else this.#sftp.name(id, there);
  }

  /** As version 3 of the protocol has it: what is there stays. */
  async #renameNew(from: string, to: string): Promise<void> {
    const there = await lstat(this.#local(to)).catch(() => undefined);
    if (there !== undefined) throw new Error('exists');
    await rename(this.#local(from), this.#local(to));
  }

  #extended(id: number, name: string, data: Buffer): void {
    const [operation] = name.split('@') as [SftpOperation];
    if (this.#options.extensions === false || !EXTENSIONS.some(([known]) => known === name)) {
      this.#status(id, STATUS.unsupported);
      return;
    }
    const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = strings(data);
    this.#on(id, operation, operation === 'fsync' ? '' : first.toString(), async () => {
      if (operation === 'statvfs') {
        send(this.#sftp, spaceReply(id, this.#server.space));
        return;
      }
      // That it comes to the disk is not what tests can see.
      if (operation === 'fsync') this.#file(first);
      else await rename(this.#local(first.toString()), this.#local(second.toString()));
      this.#status(id, STATUS.ok);
    });
  }

  /** Absolute and relative paths alike are below the root, which is also the user's home. */
  #local(path: string): string {
    return join(this.#server.root, normalize(`/${path}`));
  }

  #closeAll(): void {
    for (const file of this.#files.values()) {
      this.#server.openHandles--;
      // The last one may be on its way already.
      if ('fd' in file) void file.close().catch(() => undefined);
    }
    this.#files.clear();
  }
}

function connectionEnd(connection: Connection, end: () => void): void {
  connection.on('close', end);
}

function attributes(stats: Stats): Attributes {
  const { mode, uid, gid, size } = stats;
  const seconds = (ms: number): number => Math.floor(ms / 1000);
  return { mode, uid, gid, size, atime: seconds(stats.atimeMs), mtime: seconds(stats.mtimeMs) };
}

/** As OpenSSH's server translates them. */
function statusOf(error: unknown): number {
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return STATUS.noSuchFile;
    case 'EACCES':
    case 'EPERM':
      return STATUS.permissionDenied;
    default:
      return STATUS.failure;
  }
}

function strings(data: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let offset = 0; offset + 4 <= data.length;) {
    const length = data.readUInt32BE(offset);
    found.push(data.subarray(offset + 4, offset + 4 + length));
    offset += 4 + length;
  }
  return found;
}

interface RawChannel {
  readonly outgoing: { readonly id: number };
  readonly _protocol: { channelData(id: number, data: Buffer): void };
}

/** Sends a packet that the library cannot make: it has neither extensions nor their answers. */
function send(sftp: SFTPWrapper, packet: Buffer): void {
  const raw = sftp as unknown as RawChannel;
  raw._protocol.channelData(raw.outgoing.id, packet);
}

/** Puts the extensions into the answer to the client's first packet. */
function announce(sftp: SFTPWrapper): void {
  const raw = sftp as unknown as RawChannel;
  const protocol = raw._protocol;
  const original = protocol.channelData.bind(protocol);
  protocol.channelData = (id, data) => {
    const isVersion = data.length === 9 && data[4] === 2;
    original(id, isVersion ? versionPacket() : data);
    if (isVersion) protocol.channelData = original;
  };
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function packet(type: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from([type]), ...parts]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

function versionPacket(): Buffer {
  return packet(2, Buffer.from([0, 0, 0, 3]), ...EXTENSIONS.flat().map(text));
}

function spaceReply(id: number, space: Space): Buffer {
  const reply = Buffer.alloc(4 + 11 * 8);
  reply.writeUInt32BE(id);
  const blocks = BigInt(Math.floor(space.freeBytes / 4096));
  const files = BigInt(space.freeFiles);
  const values = [4096n, 4096n, 1_000_000n, blocks, blocks, 1_000_000n, files, files, 1n];
  const flags = space.readOnly ? 1n : 0n;
  [...values, flags, 255n].forEach((value, index) => reply.writeBigUInt64BE(value, 4 + index * 8));
  return packet(201, reply);
}
