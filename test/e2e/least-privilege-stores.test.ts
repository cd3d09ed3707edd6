/**
 * The set-ups of docs/permissions.md with few rights: what restores, what replicates, and what `doctor` says is missing.
 * The servers are ours. Those for Azure, which are Azurite's, and for OpenSSH are in test/servers.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newAgeKey } from '../support/age.ts';
import { GcsServer } from '../support/gcs-server.ts';
import type { GcsPermission } from '../support/gcs-server.ts';
import { runLitestream, until } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import type { Rig } from '../support/process-rig.ts';
import {
  complaintsOf,
  expectReads,
  expectReplicatesWithoutDeleting,
  replicateUnder,
} from '../support/rights.ts';
import type { StoreKey } from '../support/rights.ts';
import { S3Server, type S3Operation } from '../support/s3-server.ts';
import { compareDatabases } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

/** Replicates a database of some commits, whole, with all rights. */
async function replicated(rig: Rig, key: StoreKey): Promise<void> {
  const app = await rig.application();
  const litestream = await rig.replicate({ replica: key.replica, env: key.env ?? {} });
  await app.exec('CREATE TABLE t (x)');
  await app.exec("INSERT INTO t VALUES ('stored')");
  const args = ['sync', '-wait', '-config', await rig.config({ replica: key.replica })];
  expect((await runLitestream({ binary: 'ours', args, env: key.env ?? {} })).code).toBe(0);
  expect((await litestream.stop()).code).toBe(0);
}

describe('S3', () => {
  let server: S3Server;
  beforeEach(async () => {
    server = await S3Server.start();
  });
  afterEach(() => server.close());

  const ACTIONS: Readonly<Record<string, readonly S3Operation[]>> = {
    's3:ListBucket': ['ListObjects', 'ListObjectsV2'],
    's3:GetObject': ['GetObject', 'HeadObject'],
    's3:PutObject': ['PutObject', 'CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload'],
    's3:DeleteObject': ['DeleteObject', 'DeleteObjects'],
    's3:ListBucketMultipartUploads': ['ListMultipartUploads'],
    's3:AbortMultipartUpload': ['AbortMultipartUpload'],
  };

  /** A key whose policy allows these actions. */
  const allowing = (actions: readonly string[]): StoreKey => {
    const operations = actions.flatMap((action) => ACTIONS[action] ?? []);
    const body = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>';
    server.onRequest = ({ operation }) => (operations.includes(operation) ? 'pass' : { status: 403, body });
    return { replica: s3Replica(server.endpoint), env: s3Environment(server) };
  };
  const without = (action: string): StoreKey =>
    allowing(Object.keys(ACTIONS).filter((each) => each !== action));

  it('needs the actions of the policy in docs/permissions.md, and no others', async () => {
    const page = await fs.readFile(new URL('../../docs/permissions.md', import.meta.url), 'utf8');
    const policy = JSON.parse(/^```json\n([\s\S]*?)^```$/m.exec(page)?.[1] ?? '') as {
      Statement: { Action: string[] }[];
    };
    const actions = policy.Statement.flatMap(({ Action }) => Action);
    expect(actions.toSorted()).toEqual(Object.keys(ACTIONS).sort());
    await withRig(async (rig) => {
      await (await rig.application()).exec('CREATE TABLE t (x)');
      expect(await complaintsOf(rig, allowing(actions))).toEqual({ code: 0, lines: [] });
    });
  });

  it('reads everything with s3:ListBucket and s3:GetObject', async () => {
    await withRig(async (rig) => {
      await replicated(rig, allowing(Object.keys(ACTIONS)));
      server.clearRequests();
      await expectReads(rig, allowing(['s3:ListBucket', 's3:GetObject']));
      expect(Object.keys(server.counts()).sort()).toEqual(['GetObject', 'ListObjectsV2']);
    });
  });

  it.each<[action: string, code: number, first: RegExp]>([
    ['s3:ListBucket', 1, /^failure +list: .*denied: allow s3:ListBucket to this key/],
    ['s3:GetObject', 1, /^failure +get: .*allow s3:GetObject to this key.*; neither restoring nor going on/],
    [
      's3:PutObject',
      1,
      /^failure +put: .*allow s3:PutObject to this key.*; restoring works without, replicating does not/,
    ],
    [
      's3:DeleteObject',
      0,
      /^warning +delete: .*allow s3:DeleteObject to this key.*: replicating and restoring work without/,
    ],
  ])('doctor names %s when it is missing', async (action, code, first) => {
    await withRig(async (rig) => {
      await (await rig.application()).exec('CREATE TABLE t (x)');
      const found = await complaintsOf(rig, without(action));
      expect(found.lines[0]).toMatch(first);
      expect(found.code).toBe(code);
    });
  });
});

describe('an S3 bucket with versions and object lock', () => {
  it('wants digests, which doctor says; a key that may not delete replicates into it', async () => {
    const server = await S3Server.start();
    const DIGESTED: readonly S3Operation[] = ['PutObject', 'UploadPart'];
    const text =
      'Content-MD5 OR x-amz-checksum- HTTP header is required for Put requests with Object Lock parameters';
    server.onRequest = ({ operation, headers }) => {
      if (operation === 'DeleteObjects')
        return { status: 403, body: '<Error><Code>AccessDenied</Code></Error>' };
      if (!DIGESTED.includes(operation) || headers['content-md5'] !== undefined) return 'pass';
      return { status: 400, body: `<Error><Code>InvalidRequest</Code><Message>${text}</Message></Error>` };
    };
    try {
      await withRig(async (rig) => {
        const plain = { replica: s3Replica(server.endpoint), env: s3Environment(server) };
        const digesting = { ...plain, replica: [...plain.replica, 'require-content-md5: true'] };
        await (await rig.application()).exec('CREATE TABLE t (x)');
        const found = await complaintsOf(rig, plain);
        expect(found.code).toBe(1);
        expect(found.lines[0]).toMatch(
          /^failure +put: .*object lock do: set require-content-md5: true \(400 /,
        );
        expect((await complaintsOf(rig, digesting)).code).toBe(0);
        await expectReplicatesWithoutDeleting(rig, digesting);
        await expectReads(rig, plain);
      });
    } finally {
      await server.close();
    }
  });
});

describe('Google Cloud Storage', () => {
  let server: GcsServer;
  beforeEach(async () => {
    server = await GcsServer.start();
  });
  afterEach(() => server.close());

  const ROLES = {
    objectUser: ['list', 'get', 'create', 'delete'],
    objectViewer: ['list', 'get'],
    objectCreator: ['create'],
  } as const;

  /** An account with these roles. */
  const having = (...roles: (keyof typeof ROLES)[]): StoreKey => {
    server.permissions = roles.flatMap((role): readonly GcsPermission[] => ROLES[role]);
    const replica = ['type: gcs', `bucket: ${server.bucket}`, 'path: db', `endpoint: ${server.endpoint}`];
    return { replica: [...replica, 'sync-interval: 20ms'] };
  };

  it('replicates with objectCreator and objectViewer, and reads with objectViewer alone', async () => {
    await withRig(async (rig) => {
      await expectReplicatesWithoutDeleting(rig, having('objectCreator', 'objectViewer'));
      await expectReads(rig, having('objectViewer'));
    });
  });

  it.each([
    ['unencrypted', false],
    ['encrypted for a key that is elsewhere', true],
  ])('stores all with objectCreator and objectViewer although answers get lost: %s', async (_, encrypted) => {
    const { identity, recipient } = await newAgeKey();
    const ageOf = (keys: string): string[] => (encrypted ? ['age:', `  ${keys}`] : []);
    await withRig(async (rig) => {
      const { replica } = having('objectCreator', 'objectViewer');
      const key = { replica: [...replica, ...ageOf(`recipients: [${recipient}]`)] };
      const reader = await rig.config({ replica: [...replica, ...ageOf(`identities: [${identity}]`)] });
      const app = await rig.application();
      await app.exec('CREATE TABLE t (x)');
      let uploads = 0;
      // Segments and the first snapshot; what is tried again then is more, since the application goes on.
      server.onRequest = ({ operation }) => (operation === 'whole' && uploads++ < 4 ? 'lose-answer' : 'pass');
      const litestream = await replicateUnder(rig, key);
      let n = 0;
      await until(async () => {
        await app.exec(`INSERT INTO t VALUES (${n++})`);
        return uploads >= 10;
      });
      const args = ['sync', '-wait', '-config', await rig.config({ replica: key.replica })];
      expect((await runLitestream({ binary: 'ours', args })).code).toBe(0);
      expect((await litestream.stop()).code).toBe(0);
      const restored = await rig.restored({ config: reader });
      expect(await compareDatabases(rig.database, restored)).toBeUndefined();
    });
  });

  it.each<[roles: (keyof typeof ROLES)[], code: number, lines: RegExp[]]>([
    [['objectUser'], 0, []],
    [
      ['objectCreator', 'objectViewer'],
      0,
      [
        /^warning +overwrite: .*allow storage\.objects\.delete to this account, as roles\/storage\.objectUser does/,
        /^warning +delete: .*allow storage\.objects\.delete to this account.*replicating and restoring work without/,
      ],
    ],
    [
      ['objectViewer'],
      1,
      [/^failure +put: .*allow storage\.objects\.create to this account, as roles\/storage\.objectCreator/],
    ],
    [
      ['objectCreator'],
      1,
      [/^failure +list: .*allow storage\.objects\.list to this account, as roles\/storage\.objectViewer/],
    ],
  ])('doctor says of %j what is missing', async (roles, code, lines) => {
    await withRig(async (rig) => {
      await (await rig.application()).exec('CREATE TABLE t (x)');
      const found = await complaintsOf(rig, having(...roles));
      const ofRights = found.lines.filter((line) => !/^warning +(clean-up|multipart): /.test(line));
      expect(ofRights).toHaveLength(lines.length);
      for (const [number, line] of lines.entries()) expect(ofRights[number]).toMatch(line);
      expect(found.code).toBe(code);
    });
  });
});

describe('a folder', () => {
  const ROOT = process.getuid?.() === 0;

  it.skipIf(!ROOT)('that may only be read is restored from by another user (needs root)', async () => {
    await withRig(async (rig) => {
      const userId = 65_534;
      const key = { replica: [`path: ${rig.replica}`, 'sync-interval: 20ms'] };
      await replicated(rig, key);
      const open = async (path: string): Promise<void> => {
        const stats = await fs.stat(path);
        await fs.chmod(path, stats.isDirectory() ? 0o755 : 0o644);
        if (!stats.isDirectory()) return;
        for (const name of await fs.readdir(path)) await open(join(path, name));
      };
      await open(rig.replica);
      await fs.chmod(rig.dir, 0o755);
      const home = join(rig.dir, 'home');
      await fs.mkdir(home);
      await fs.chown(home, userId, userId);
      const run = async (...args: string[]) =>
        await runLitestream({ binary: 'ours', args, userId, cwd: home, env: { HOME: home } });
      const url = `file://${rig.replica}`;
      const restored = join(home, 'restored');
      expect((await run('restore', '-o', restored, url)).stderr).not.toMatch(/error/i);
      expect(await compareDatabases(rig.database, restored)).toBeUndefined();
      expect((await fs.stat(restored)).uid).toBe(userId);
      for (const command of ['timeline', 'snapshots', 'wal', 'generations']) {
        expect((await run(command, url)).code, command).toBe(0);
      }
      expect((await run('verify', '-replica-only', url)).code).toBe(0);
      const { code, stdout } = await run('doctor', url);
      expect(code).toBe(1);
      expect(stdout).toMatch(
        /failure +put: .*permission denied; allow the user .* 65534.*restoring works without/,
      );
    });
  });
});
