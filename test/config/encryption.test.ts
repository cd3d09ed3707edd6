import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { checkReplicable, loadConfig, type Config } from '../../src/config/index.ts';
import { newAgeKey, type AgeKey } from '../support/age.ts';
import { withTempDir } from '../support/process.ts';

let key: AgeKey;
beforeAll(async () => {
  key = await newAgeKey();
});

async function load(replica: string, env: Record<string, string> = {}): Promise<Config> {
  return withTempDir(async (dir) => {
    const path = join(dir, 'c.yml');
    await writeFile(path, `dbs:\n  - path: a.db\n    replicas:\n      - path: /r\n${replica}`);
    return loadConfig(path, { expandEnv: true, env, cwd: dir });
  });
}

async function refused(replica: string, env: Record<string, string> = {}): Promise<string> {
  return load(replica, env).then(
    () => 'accepted',
    (error: unknown) => String(error),
  );
}

it('takes keys in lists, from variables, and whole key files', async () => {
  const replica = `        age:
          recipients: [$PUBLIC]
          identities:
            - |
              # created: 2026-01-01
              # public key: $PUBLIC

              $SECRET
`;
  const config = await load(replica, { PUBLIC: key.recipient, SECRET: key.identity });
  expect(config.databases[0]?.replicas[0]?.store).toMatchObject({
    type: 'file',
    encryption: { recipients: [key.recipient], identities: [key.identity] },
  });
  expect(() => checkReplicable(config)).not.toThrow();
  const plain = await load('');
  expect(plain.databases[0]?.replicas[0]?.store).not.toHaveProperty('encryption');
});

it('reads plaintext only when it says so', async () => {
  const age = `        age:\n          identities: [${key.identity}]\n`;
  const encryptionOf = async (text: string): Promise<unknown> =>
    (await load(text)).databases[0]?.replicas[0]?.store.encryption;
  expect(await encryptionOf(age)).toEqual({ recipients: [], identities: [key.identity] });
  expect(await encryptionOf(`${age}          allow-plaintext: false\n`)).not.toHaveProperty('allowPlaintext');
  expect(await encryptionOf(`${age}          allow-plaintext: true\n`)).toHaveProperty(
    'allowPlaintext',
    true,
  );
});

it('refuses what would encrypt nothing', async () => {
  expect(await refused('        age: {recipients: []}\n')).toContain(
    'age has neither recipients nor identities: nothing would be encrypted',
  );
  expect(await refused('        age: {recipients: ["$UNSET"]}\n')).toContain(
    'age.recipients: item 1 is empty',
  );
  expect(await refused('        age:\n          recipients:\n            - $UNSET\n')).toContain(
    'age.recipients: item 1 is empty',
  );
  expect(
    await refused(
      `        age:\n          recipients: [${key.recipient}]\n          identities:\n            - $UNSET\n`,
    ),
  ).toContain('age.identities: item 1 is empty');
  expect(await refused(`        age: {recipients: [age1x], identities: ["# only a comment"]}\n`)).toContain(
    'age.identities: item 1 is empty',
  );
});

it('refuses malformed keys, without showing them', async () => {
  for (const replica of [
    `        age: {identities: [${key.identity.slice(0, -1)}]}\n`,
    `        age: {recipients: [${key.identity}]}\n`,
    `        age:\n          identities:\n            - ${key.identity}X\n`,
  ]) {
    const message = await refused(replica);
    expect(message).toMatch(/age\.(identities|recipients): item 1 is .*secret key[^]*c\.yml:4:9/);
    expect(message).not.toContain(key.identity.slice(20, 40));
  }
});

it('does not replicate what cannot be encrypted, or validate what cannot be decrypted', async () => {
  const restoring = await load(`        age: {identities: [${key.identity}]}\n`);
  expect(() => checkReplicable(restoring)).toThrow(/age\.recipients is missing/);
  const age = `        age: {recipients: [${key.recipient}]}\n`;
  expect(() => checkReplicable(restoring)).not.toThrow(key.identity.slice(20, 40));
  const validating = await load(`        validation-interval: 1h\n${age}`);
  expect(() => checkReplicable(validating)).toThrow(/validation-interval needs age\.identities/);
  const storing = await load(age);
  expect(() => checkReplicable(storing)).not.toThrow();
});
