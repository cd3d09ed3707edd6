/** Encrypted replicas: either program reads what the other one encrypted, and nothing of the database can be seen. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { newAgeKey, type AgeKey } from '../support/age.ts';
import { type RunResult, SUBJECT, runLitestream, until } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, compareFiles } from '../support/sqlite.ts';

const DIRECTIONS = [
  { from: SUBJECT, to: 'oracle' },
  { from: 'oracle', to: SUBJECT },
] as const;

/** In the schema, in rows that compress well, and in a name. */
const MARKER = 'plaintextmarker';

let key: AgeKey;
let other: AgeKey;
beforeAll(async () => {
  key = await newAgeKey();
  other = await newAgeKey();
});

interface Keys {
  readonly recipients?: readonly AgeKey[];
  readonly identities?: readonly AgeKey[];
}

function encrypted(rig: Rig, { recipients = [], identities = [] }: Keys): string[] {
  return [
    `path: ${rig.replica}`,
    'sync-interval: 20ms',
    'age:',
    ...list('recipients', recipients, ({ recipient }) => recipient),
    ...list('identities', identities, ({ identity }) => identity),
  ];
}

function list(name: string, keys: readonly AgeKey[], show: (key: AgeKey) => string): string[] {
  return keys.length === 0 ? [] : [`  ${name}: [${keys.map(show).join(', ')}]`];
}

/** A config by which the replica can be restored. */
function restoring(rig: Rig, ...identities: AgeKey[]): Promise<string> {
  return rig.config({ replica: encrypted(rig, { identities }) });
}

/** All files of the replica, by their names below it. */
async function stored(rig: Rig): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of await fs.readdir(rig.replica, { recursive: true })) {
    const path = join(rig.replica, name);
    if ((await fs.stat(path)).isFile()) files.set(name, await fs.readFile(path));
  }
  return files;
}

/** The files in which the marker, an LZ4 frame or a trailer of ours can be seen, and names with the marker. */
function visible(files: ReadonlyMap<string, Buffer>): string[] {
  const shows = (data: Buffer): boolean => {
    if ([MARKER, 'SQLite format 3', 'LTSTRAIL'].some((text) => data.includes(text))) return true;
    const frame = data.indexOf('04224d18', 0, 'hex');
    if (frame < 0) return false;
    return Buffer.from(decodeLz4FrameBytes(data.subarray(frame))).includes(MARKER);
  };
  return [...files].filter(([name, data]) => name.includes(MARKER) || shows(data)).map(([name]) => name);
}

async function markedApplication(rig: Rig): Promise<Awaited<ReturnType<Rig['application']>>> {
  const app = await rig.application({ pragmas: ['journal_mode=WAL', 'wal_autocheckpoint=0'] });
  await app.exec(`CREATE TABLE ${MARKER} (v)`);
  for (let i = 0; i < 5; i++) await mark(app, 9000);
  return app;
}

async function mark(app: Awaited<ReturnType<Rig['application']>>, sizeBytes: number): Promise<void> {
  await app.exec(`INSERT INTO ${MARKER} VALUES (printf('%.*c${MARKER}', ${sizeBytes}, 'x'))`);
}

describe.each(DIRECTIONS)('$from encrypts, both restore', ({ from, to }) => {
  it('many indexes, and the other one goes on in place', async () => {
    await withRig(async (rig) => {
      const app = await markedApplication(rig);
      const options = {
        replica: encrypted(rig, { recipients: [other, key], identities: [key] }),
        database: ['min-checkpoint-page-count: 10', 'max-checkpoint-page-count: 20'],
      };
      const config = await restoring(rig, key);
      for (const [life, binary] of [from, to].entries()) {
        const litestream = await rig.replicate({ ...options, binary });
        await app.load({ kind: 'write', seed: life, steps: 30, maxRows: 60, rollbackShare: 0 });
        await rig.caughtUp({ config });
        const restored: string[] = [];
        // Before it ends: v0.3.13 may then upload twice at once, and restore something else from that.
        for (const identity of [key, other]) {
          const [ours, theirs] = [
            await rig.restored({ binary: SUBJECT, config: await restoring(rig, identity) }),
            await rig.restored({ binary: 'oracle', config: await restoring(rig, identity) }),
          ];
          expect(await compareFiles(theirs, ours), `life of ${binary}`).toBeUndefined();
          restored.push(ours);
        }
        await litestream.stop();
        for (const path of restored) expect(await compareDatabases(rig.database, path)).toBeUndefined();
      }
      for (const [name, data] of await stored(rig)) {
        if (!name.endsWith('.lz4')) continue;
        expect(data.toString('latin1', 0, 22), name).toBe('age-encryption.org/v1\n');
      }
    });
  });
});

describe('a host with recipients only', () => {
  it('replicates, is killed, and continues; another one restores any moment', async () => {
    await withRig(async (rig) => {
      const app = await markedApplication(rig);
      const options = { replica: encrypted(rig, { recipients: [key] }) };
      const here = await rig.config(options);
      const elsewhere = await restoring(rig, key);
      const sync = ['sync', '-wait', '-config', here];
      const generations = new Set<string>();
      const copies: { readonly time: string; readonly path: string }[] = [];
      for (let life = 0; life < 3; life++) {
        const litestream = await rig.replicate(options);
        await app.load({ kind: 'write', seed: life, steps: 20, rollbackShare: 0 });
        const path = await rig.caughtUp({ config: elsewhere });
        copies.push({ time: new Date().toISOString(), path });
        await mark(app, 10);
        await until(async () => (await runLitestream({ binary: 'ours', args: sync })).code === 0);
        generations.add((await rig.generation()) ?? '');
        if (life === 1) await litestream.stop();
        else await litestream.kill();
      }
      expect(generations.size).toBe(1);
      const names = await rig.replicaFiles();
      expect(names.filter((name) => name.endsWith('.snapshot.lz4'))).toHaveLength(1);
      for (const { time, path } of copies) {
        const then = await rig.restored({ config: elsewhere, args: ['-timestamp', time] });
        expect(await compareFiles(path, then)).toBeUndefined();
      }
      const now = await rig.restored({ config: elsewhere });
      expect(await compareDatabases(rig.database, now)).toBeUndefined();
    });
  });

  it('lists what is there, and says what is missing to restore it', async () => {
    await withRig(async (rig) => {
      await markedApplication(rig);
      const options = { replica: encrypted(rig, { recipients: [key] }) };
      const config = await rig.config(options);
      const litestream = await rig.replicate(options);
      await rig.snapshotStored();
      await litestream.stop();
      for (const command of ['generations', 'snapshots', 'wal', 'databases', 'doctor']) {
        const args = [command, '-config', config, ...(command === 'databases' ? [] : [rig.database])];
        const { code, stdout, stderr } = await runLitestream({ binary: 'ours', args });
        expect(code, `${command}: ${stdout}${stderr}`).toBe(0);
      }
      for (const source of [{ config }, {}]) {
        const { code, stdout, stderr } = await rig.restore(source);
        expect(code).toBe(1);
        expect(`${stdout}${stderr}`).toMatch(
          /generations\/\S+: .*is encrypted with age: set age\.identities/,
        );
      }
    });
  });
});

/** Waits until `replicate` has stored every commit. */
async function allStored(rig: Rig, config: string): Promise<void> {
  await until(async () => {
    const args = ['sync', '-wait', '-config', config, rig.database];
    return (await runLitestream({ binary: 'ours', args })).code === 0;
  });
}

function verified(config: string, database: string): Promise<RunResult> {
  return runLitestream({ binary: 'ours', args: ['verify', '-config', config, database] });
}

describe('a replica that was begun without encryption, and goes on with it', () => {
  it('restores what is encrypted, and what is from before when asked', async () => {
    await withRig(async (rig) => {
      const app = await markedApplication(rig);
      const plain = await rig.replicate({ replica: [`path: ${rig.replica}`, 'sync-interval: 20ms'] });
      await allStored(rig, await rig.config({ replica: [`path: ${rig.replica}`] }));
      await plain.stop();
      const then = new Date().toISOString();
      const before = await rig.restored();
      const first = (await rig.generation()) ?? '';
      const keys = { recipients: [key], identities: [key] };
      const litestream = await rig.replicate({ replica: encrypted(rig, keys) });
      await mark(app, 10);
      const config = await restoring(rig, key);
      await allStored(rig, config);
      // Whose encryption was turned on has a backup that is well, from then on.
      const whole = await verified(config, rig.database);
      expect(whole).toMatchObject({ code: 0 });
      expect(whole.stdout).toContain(`note: generation ${first} is not encrypted, and was not looked at`);
      await litestream.stop();
      const generations = await fs.readdir(join(rig.replica, 'generations'));
      expect(generations).toHaveLength(2);
      const [snapshot = ''] = await fs.readdir(join(rig.replica, 'generations', first, 'snapshots'));
      const latest = generations.find((name) => name !== first) ?? '';
      const planted = join(rig.replica, 'generations', latest, 'snapshots', '00000009.snapshot.lz4');
      await fs.cp(join(rig.replica, 'generations', first, 'snapshots', snapshot), planted);
      expect((await verified(config, rig.database)).stdout).toMatch(
        /failed: snapshot .*00000009.*not encrypted/,
      );
      await fs.rm(planted);
      expect(await compareDatabases(rig.database, await rig.restored({ config }))).toBeUndefined();

      for (const args of [
        ['-timestamp', then],
        ['-generation', first],
      ]) {
        const refused = await rig.restore({ config, args });
        expect(refused.code).toBe(1);
        expect(`${refused.stdout}${refused.stderr}`).toMatch(
          /not encrypted.*or it is from before encryption was turned on.*-allow-plaintext, or age.allow-plaintext/,
        );
        await expect(fs.stat(refused.path)).rejects.toThrow('ENOENT');
        const asked = await rig.restored({ config, args: [...args, '-allow-plaintext'] });
        expect(await compareFiles(before, asked)).toBeUndefined();
        const configured = [...encrypted(rig, { identities: [key] }), '  allow-plaintext: true'];
        const lenient = await rig.config({ replica: configured });
        const read = await rig.restored({ config: lenient, args });
        expect(await compareFiles(before, read)).toBeUndefined();
      }
    });
  });

  it('does not restore what somebody else puts there, alone or among what is encrypted', async () => {
    await withRig(async (rig) => {
      const app = await markedApplication(rig);
      const litestream = await rig.replicate({
        replica: encrypted(rig, { recipients: [key], identities: [key] }),
      });
      const config = await restoring(rig, key);
      await allStored(rig, config);
      await litestream.stop();
      const ours = (await rig.generation()) ?? '';
      // Another database's, unencrypted, and newer than ours.
      const theirs = `${rig.replica}-theirs`;
      await mark(app, 10);
      const plain = await rig.replicate({ replica: [`path: ${theirs}`, 'sync-interval: 20ms'] });
      await allStored(rig, await rig.config({ replica: [`path: ${theirs}`] }));
      await plain.stop();
      const generations = join(theirs, 'generations');
      const [planted = ''] = await fs.readdir(generations);
      const folder = join(rig.replica, 'generations', 'eeeeeeeeeeeeeeee');
      await fs.cp(join(generations, planted), folder, { recursive: true });
      const alone = await rig.restore({ config, args: ['-generation', 'eeeeeeeeeeeeeeee'] });
      expect(alone.code).toBe(1);
      expect(`${alone.stdout}${alone.stderr}`).toMatch(/not encrypted.*somebody has put it there/);

      // In our generation, as the snapshot.
      await fs.rm(folder, { recursive: true });
      const snapshots = join(rig.replica, 'generations', ours, 'snapshots');
      const [name = ''] = await fs.readdir(snapshots);
      await fs.cp(join(generations, planted, 'snapshots', '00000000.snapshot.lz4'), join(snapshots, name));
      for (const args of [[], ['-allow-plaintext']]) {
        const among = await rig.restore({ config, args });
        expect(among.code, `${among.stdout}${among.stderr}`).toBe(1);
        expect(`${among.stdout}${among.stderr}`).toMatch(/not encrypted|some are not/);
      }
    });
  });
});

describe('an identity that is another one', () => {
  it('restores nothing, and is named by its public key', async () => {
    await withRig(async (rig) => {
      await markedApplication(rig);
      const litestream = await rig.replicate({ replica: encrypted(rig, { recipients: [key] }) });
      await rig.snapshotStored();
      await litestream.stop();
      const config = await restoring(rig, other);
      const { code, path, stdout, stderr } = await rig.restore({ config });
      expect(code).toBe(1);
      expect(`${stdout}${stderr}`).toMatch(
        new RegExp(`generations/\\S+: .*none of age.identities opens it: .*${other.recipient}`),
      );
      expect(`${stdout}${stderr}`).not.toContain('AGE-SECRET-KEY');
      await expect(fs.stat(path)).rejects.toThrow('ENOENT');
    });
  });
});

describe('doctor', () => {
  it.each([
    ['recipients only', (): Keys => ({ recipients: [key] }), 0, 'a config with identities is needed'],
    ['a pair', (): Keys => ({ recipients: [key], identities: [key] }), 0, 'can be restored with this config'],
    [
      'keys of different pairs',
      (): Keys => ({ recipients: [key], identities: [other] }),
      1,
      'cannot be restored with age.identities',
    ],
  ])('says whether this config can restore: %s', async (_, keys, exitCode, message) => {
    await withRig(async (rig) => {
      await markedApplication(rig);
      const config = await rig.config({ replica: encrypted(rig, keys()) });
      const { code, stdout } = await runLitestream({ binary: 'ours', args: ['doctor', '-config', config] });
      expect(stdout).toContain(message);
      expect(code, stdout).toBe(exitCode);
    });
  });
});

describe('what cannot be done', () => {
  it.each([
    ['identities only', (): Keys => ({ identities: [key] }), [], 'age.recipients is missing'],
    [
      'validation without identities',
      (): Keys => ({ recipients: [key] }),
      ['validation-interval: 1s'],
      'validation-interval needs age.identities',
    ],
    [
      'a recipient that was cut',
      (): Keys => ({ recipients: [{ ...key, recipient: key.recipient.slice(0, -1) }] }),
      [],
      'age.recipients: item 1',
    ],
    [
      'an identity that was cut',
      (): Keys => ({ recipients: [key], identities: [{ ...key, identity: key.identity.slice(0, -1) }] }),
      [],
      'age.identities: item 1',
    ],
  ])('refuses to start: %s', async (_, keys, lines, message) => {
    await withRig(async (rig) => {
      const config = await rig.config({ replica: [...encrypted(rig, keys()), ...lines] });
      const args = ['replicate', '-config', config];
      const { code, stdout, stderr } = await runLitestream({ binary: 'ours', args });
      expect(code).toBe(1);
      expect(`${stdout}${stderr}`).toContain(message);
      expect(`${stdout}${stderr}`).not.toContain(key.identity.slice(20, 40));
      await expect(fs.stat(rig.replica)).rejects.toThrow('ENOENT');
    });
  });
});

describe('what can be seen', () => {
  it('is nothing of the database: not in names, bytes, or what they decompress to', async () => {
    await withRig(async (rig) => {
      const app = await markedApplication(rig);
      const plain = await rig.replicate();
      await rig.snapshotStored();
      await plain.stop();
      // The same scan sees it where nothing is encrypted.
      const before = await stored(rig);
      expect(visible(before).length).toBe(before.size);
      await fs.rm(rig.replica, { recursive: true });

      const config = await restoring(rig, key);
      const litestream = await rig.replicate({
        replica: [...encrypted(rig, { recipients: [key], identities: [key] }), 'validation-interval: 200ms'],
        database: ['min-checkpoint-page-count: 10'],
      });
      await rig.snapshotStored();
      for (let i = 0; i < 5; i++) {
        const { length } = await rig.replicaFiles();
        await mark(app, 30_000);
        await until(async () => (await rig.replicaFiles()).length > length);
      }
      await rig.restored({ config });
      await litestream.stop();
      const files = await stored(rig);
      expect(files.size).toBeGreaterThan(5);
      expect(visible(files)).toEqual([]);
    });
  });

  it('is no secret key: in logs, tables, JSON and errors', async () => {
    await withRig(async (rig) => {
      await markedApplication(rig);
      const options = {
        replica: [...encrypted(rig, { recipients: [key], identities: [key] }), 'retention: 1h'],
        global: ['logging: {level: debug, type: json}'],
      };
      const config = await rig.config(options);
      const litestream = await rig.replicateUnready(options);
      await rig.snapshotStored();
      const outputs: string[] = [];
      for (const command of ['status', 'databases', 'snapshots', 'wal', 'retention', 'doctor', 'restore']) {
        const more =
          command === 'retention' ? ['-dry-run'] : command === 'restore' ? ['-o', rig.database] : [];
        const words = [command, ...more, ...(command === 'restore' ? [] : ['-json']), '-config', config];
        const args = command === 'databases' ? words : [...words, rig.database];
        const { code, stdout, stderr } = await runLitestream({ binary: 'ours', args });
        expect(code, `${command}: ${stdout}${stderr}`).toBe(command === 'restore' ? 1 : 0);
        outputs.push(`${command}: ${stdout}${stderr}`);
      }
      await litestream.stop();
      outputs.push(...litestream.lines, await fs.readFile(join(rig.metaDir, 'encryption-file.json'), 'utf8'));
      for (const output of outputs) expect(output).not.toMatch(/AGE-SECRET|SECRET-KEY/i);
      expect(outputs.join('\n')).not.toContain(key.identity.slice(20, 40));
    });
  });
});
