import { mkdir, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, formatPlace, loadConfig, type Config } from '../../src/config/index.ts';
import {
  DATABASE_DEFAULTS,
  DEFAULT_SHUTDOWN_TIMEOUT_MS,
  REPLICA_DEFAULTS,
} from '../../src/engine/options.ts';
import { runLitestream, withTempDir } from '../support/process.ts';

interface Given {
  readonly env?: Record<string, string>;
  readonly expandEnv?: boolean;
}

/** Loads `text` from DIR/c.yml with DIR as the working folder. */
async function load(dir: string, text: string, given: Given = {}): Promise<Config> {
  const path = join(dir, 'c.yml');
  await writeFile(path, text);
  return await loadConfig(path, { expandEnv: given.expandEnv ?? true, env: given.env ?? {}, cwd: dir });
}

/** The message of the error, with the folder shortened to DIR. */
async function failure(text: string, given: Given = {}): Promise<string> {
  return await withTempDir(async (dir) => {
    const error: unknown = await load(dir, text, given).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof ConfigError)) throw new Error('expected a ConfigError', { cause: error });
    expect(error.code).toBe('config');
    return error.message.replaceAll(dir, 'DIR');
  });
}

/** The warnings as they are shown. */
async function warnings(text: string, given: Given = {}): Promise<string[]> {
  return await withTempDir(async (dir) => {
    const config = await load(dir, text, given);
    return config.warnings.map((warning) =>
      `${warning.message}\n${formatPlace(warning)}`.replaceAll(dir, 'DIR'),
    );
  });
}

const db = (replica: string): string => `dbs:\n  - path: a.db\n    replicas:\n      - ${replica}\n`;

describe('defaults', () => {
  it('are those of the engine', async () => {
    await withTempDir(async (dir) => {
      const config = await load(dir, db('path: /r'));
      expect(config).toMatchObject({
        path: join(dir, 'c.yml'),
        addr: '',
        exec: '',
        logging: { level: 'INFO', type: 'text', stderr: false },
        shutdownTimeoutMs: DEFAULT_SHUTDOWN_TIMEOUT_MS,
        warnings: [],
      });
      expect(config.databases).toEqual([
        {
          ...DATABASE_DEFAULTS,
          path: join(dir, 'a.db'),
          replicas: [
            {
              ...REPLICA_DEFAULTS,
              name: 'file',
              store: { type: 'file', path: '/r', ownerLike: join(dir, 'a.db') },
            },
          ],
        },
      ]);
    });
  });

  it.each(['', '# nothing\n', 'dbs:\n', '~\n'])('%j configures no database', async (text) => {
    await withTempDir(async (dir) => expect((await load(dir, text)).databases).toEqual([]));
  });
});

describe('values', () => {
  it('are read from every key', async () => {
    await withTempDir(async (dir) => {
      const config = await load(
        dir,
        `addr: ":9090"
exec: run it
access-key-id: globalid
secret-access-key: globalsecret
shutdown-timeout: 20s
logging: {level: warning, type: json, stderr: yes}
dbs:
  - path: ~/x.db
    meta-path: meta
    monitor-interval: 50ms
    checkpoint-interval: 1h30m
    min-checkpoint-page-count: 0x10
    max-checkpoint-page-count: 1_000
    replicas:
      - type: s3
        name: one
        bucket: b
        path: /lead//x/
        endpoint: 127.0.0.1:9000
        region: r
        skip-verify: on
        retention: 30m
        sync-interval: 100ms
        snapshot-interval: 4h
        validation-interval: 6h
      - url: s3://b.localhost:9000/p
        force-path-style: false
        access-key-id: own
        secret-access-key: ownsecret
        retention-check-interval: 10m
`,
      );
      expect(config).toMatchObject({
        addr: ':9090',
        exec: 'run it',
        shutdownTimeoutMs: 20_000,
        warnings: [],
      });
      expect(config.logging).toEqual({ level: 'WARN', type: 'json', stderr: true });
      expect(config.databases).toEqual([
        {
          path: join(userInfo().homedir, 'x.db'),
          metaPath: join(dir, 'meta'),
          monitorIntervalMs: 50,
          checkpointIntervalMs: 5_400_000,
          minCheckpointPageCount: 16,
          maxCheckpointPageCount: 1000,
          replicas: [
            {
              name: 'one',
              store: {
                type: 's3',
                bucket: 'b',
                path: 'lead/x',
                region: 'r',
                endpoint: 'https://127.0.0.1:9000',
                forcePathStyle: true,
                skipVerify: true,
                accessKeyId: 'globalid',
                secretAccessKey: 'globalsecret',
              },
              syncIntervalMs: 100,
              snapshotIntervalMs: 14_400_000,
              retentionMs: 1_800_000,
              retentionCheckIntervalMs: 1_800_000,
              validationIntervalMs: 21_600_000,
            },
            {
              ...REPLICA_DEFAULTS,
              name: 's3',
              store: {
                type: 's3',
                bucket: 'b',
                path: 'p',
                region: 'us-east-1',
                endpoint: 'http://localhost:9000',
                forcePathStyle: false,
                skipVerify: false,
                accessKeyId: 'own',
                secretAccessKey: 'ownsecret',
              },
              retentionCheckIntervalMs: 600_000,
            },
          ],
        },
      ]);
    });
  });

  it('take a URL given as the bucket for a replica URL, before the path', async () => {
    const text =
      'dbs:\n  - {path: a, replicas: [{type: s3, bucket: $B}]}\n  - {path: b, replicas: [{type: s3, bucket: $B, path: storage/b}]}\n';
    await withTempDir(async (dir) => {
      const { databases } = await load(dir, text, { env: { B: 's3://mybkt.localhost:9000/' } });
      const common = { bucket: 'mybkt', endpoint: 'http://localhost:9000', region: 'us-east-1' };
      expect(databases.map(({ replicas }) => replicas[0]?.store)).toMatchObject([
        { ...common, path: '' },
        { ...common, path: 'storage/b' },
      ]);
    });
  });

  it('come through anchors and merge keys', async () => {
    await withTempDir(async (dir) => {
      const { databases, warnings: found } = await load(
        dir,
        'x-common: &c\n  retention: 5m\n  region: &r eu\ndbs:\n  - path: a\n    replicas:\n      - <<: *c\n        type: s3\n        bucket: *r\n',
      );
      expect(databases[0]?.replicas[0]).toMatchObject({
        retentionMs: 300_000,
        store: { bucket: 'eu', region: 'eu' },
      });
      expect(found).toEqual([]);
    });
  });

  it('stay unexpanded with -no-expand-env', async () => {
    await withTempDir(async (dir) => {
      const config = await load(dir, 'exec: echo $HOME\n', { expandEnv: false });
      expect(config).toMatchObject({ exec: 'echo $HOME', warnings: [] });
    });
  });
});

describe('errors', () => {
  it.each([
    [
      'type: wat',
      'unknown replica type in config: "wat"\nDIR/c.yml:4:15\n        - type: wat\n                ^',
    ],
    ['url: /a/b', 'replica url scheme required: /a/b\nDIR/c.yml:4:14\n        - url: /a/b\n               ^'],
    [
      'path: s3://b/p',
      "replica path cannot be a url, please use the 'url' field instead: s3://b/p\nDIR/c.yml:4:15\n        - path: s3://b/p\n                ^",
    ],
    [
      '{url: s3://b/p, path: x}',
      'cannot specify url & path for s3 replica\nDIR/c.yml:4:31\n        - {url: s3://b/p, path: x}\n                                ^',
    ],
    [
      '{url: "file:///p", path: x}',
      'cannot specify url & path for file replica\nDIR/c.yml:4:34\n        - {url: "file:///p", path: x}\n                                   ^',
    ],
    [
      '{url: s3://b/p, bucket: x}',
      'cannot specify url & bucket for s3 replica\nDIR/c.yml:4:33\n        - {url: s3://b/p, bucket: x}\n                                  ^',
    ],
    ['path: ""', 'file replica path required\nDIR/c.yml:4:15\n        - path: ""\n                ^'],
    ['type: s3', 'bucket required for s3 replica\nDIR/c.yml:4:9\n        - type: s3\n          ^'],
    ['type: gcs', 'bucket required for gcs replica\nDIR/c.yml:4:9\n        - type: gcs\n          ^'],
    [
      '{path: x, age: {recipients: [a]}}',
      'age.recipients: item 1 is not a recipient of age (age1…): check that it was copied whole\nDIR/c.yml:4:9\n        - {path: x, age: {recipients: [a]}}\n          ^',
    ],
    [
      '{type: s3, bucket: b, access-key-id: AAA}',
      'secret-access-key required for s3 replica that has access-key-id\nDIR/c.yml:4:46\n        - {type: s3, bucket: b, access-key-id: ***}\n                                               ^',
    ],
    [
      '{type: s3, bucket: b, endpoint: "ftp://x"}',
      'endpoint is not a url of http or https: ftp://x\nDIR/c.yml:4:41\n        - {type: s3, bucket: b, endpoint: "ftp://x"}\n                                          ^',
    ],
    ['', 'replica is empty in config\nDIR/c.yml:4:7\n        - \n        ^'],
  ])('name the replica for %j', async (replica, message) => {
    expect(await failure(db(replica))).toBe(message);
  });

  it('list every wrong type as v0.3.13 does, but not what a variable holds', async () => {
    const text = `dbs:
  - path: a.db
    min-checkpoint-page-count: abc
    replicas:
      - force-path-style: maybe
        sync-interval: $HIDDEN
`;
    expect(await failure(text, { env: { HIDDEN: 'hunter2' } })).toBe(`yaml: unmarshal errors:
  line 3: cannot unmarshal !!str \`abc\` into int
  line 5: cannot unmarshal !!str \`maybe\` into bool
  line 6: cannot unmarshal !!str \`$HIDDEN\` into time.Duration
DIR/c.yml:3:32
      min-checkpoint-page-count: abc
                                 ^
DIR/c.yml:5:27
        - force-path-style: maybe
                            ^
DIR/c.yml:6:24
          sync-interval: $HIDDEN
                         ^`);
  });

  it.each([
    ['dbs: [\n', 'yaml: line 1: did not find expected node content\nDIR/c.yml:1:6\n  dbs: [\n       ^'],
    [
      'dbs:\n\t- path: a\n',
      'yaml: line 2: found character that cannot start any token\nDIR/c.yml:2:1\n  \t- path: a\n  ^',
    ],
    [
      'a: b: c\n',
      'yaml: line 1: mapping values are not allowed in this context\nDIR/c.yml:1:4\n  a: b: c\n     ^',
    ],
    [
      'password: *hunter2\n',
      'yaml: line 1: unknown anchor referenced\nDIR/c.yml:1:11\n  password: ***\n            ^',
    ],
    ['a: {b: c\n', "yaml: line 1: did not find expected ',' or '}'\nDIR/c.yml:1:8\n  a: {b: c\n         ^"],
    [
      'shutdown-timeout: 0s\n',
      'shutdown-timeout must be positive, not 0s\nDIR/c.yml:1:19\n  shutdown-timeout: 0s\n                    ^',
    ],
    ['dbs:\n  - replicas: []\n', 'database path required\nDIR/c.yml:2:5\n    - replicas: []\n      ^'],
    [
      'logging:\n  type: wat\n',
      'unknown logging type "wat": use text or json\nDIR/c.yml:2:9\n    type: wat\n          ^',
    ],
  ])('point into %j', async (text, message) => {
    expect(await failure(text)).toBe(message);
  });

  it('point to the reference when a variable breaks the file', async () => {
    const message = await failure('exec: $CMD\naddr: x\n', { env: { CMD: 'one\ntwo: [s3cret' } });
    expect(message).toMatch(/^yaml: line [12]: /);
    expect(message).not.toContain('s3cret');
  });

  it('name both databases of one location', async () => {
    const text =
      'dbs:\n  - path: a\n    replicas:\n      - path: r\n  - path: b\n    replicas:\n      - path: ./x/../r/\n';
    const message = await failure(text);
    expect(message).toBe(
      'databases DIR/a and DIR/b share one replica location: DIR/r: give each its own path\nDIR/c.yml:7:9\n        - path: ./x/../r/\n          ^',
    );
    expect(
      await failure(
        'dbs:\n  - path: a\n    replicas:\n      - {name: x, url: s3://b/p}\n      - {name: y, type: s3, bucket: b, path: p/}\n',
      ),
    ).toContain(
      'replicas "x" and "y" of database DIR/a share one location: s3://b/p: give each its own path\n',
    );
  });

  it('carry the logging settings once they are known', async () => {
    await withTempDir(async (dir) => {
      await expect(load(dir, `logging: {type: json}\n${db('type: wat')}`)).rejects.toMatchObject({
        headline: 'unknown replica type in config: "wat"',
        logging: { type: 'json' },
      });
      await expect(load(dir, 'dbs: [')).rejects.toMatchObject({ logging: undefined });
    });
  });

  it('name a file that cannot be read', async () => {
    await withTempDir(async (dir) => {
      const options = { expandEnv: true, env: {}, cwd: dir };
      await expect(loadConfig('no.yml', options)).rejects.toThrow(`config file not found: ${dir}/no.yml`);
      await expect(loadConfig('no.yml', { ...options, whenMissing: ', nor b.yml' })).rejects.toThrow(
        `config file not found: ${dir}/no.yml, nor b.yml`,
      );
      await expect(loadConfig(dir, options)).rejects.toThrow(`read ${dir}: is a directory`);
      await writeFile(join(dir, 'bin.yml'), new Uint8Array([0x61, 0x3a, 0x20, 0xff]));
      await expect(loadConfig('bin.yml', options)).rejects.toThrow(
        `config file is not UTF-8 text: ${dir}/bin.yml`,
      );
    });
  });
});

describe('warnings', () => {
  it.each([
    [
      'dbs:\n  - path: a\n    replica: x\n',
      'unknown key "replica" is ignored: did you mean "replicas"?\nDIR/c.yml:3:5\n      replica: x\n      ^',
    ],
    [
      'nothing-like-it: 1\n',
      'unknown key "nothing-like-it" is ignored\nDIR/c.yml:1:1\n  nothing-like-it: 1\n  ^',
    ],
    [
      'addr: a\naddr: b\n',
      'key "addr" is set more than once: the last one counts\nDIR/c.yml:2:1\n  addr: b\n  ^',
    ],
    [
      'dbs:\n  - path: a\n    monitor-interval: 5\n',
      'monitor-interval: 5 without a unit counts nanoseconds and means 5ns: write "5s" for seconds\nDIR/c.yml:3:23\n      monitor-interval: 5\n                        ^',
    ],
    [
      'secret-access-key: ${NOPE}\n',
      'environment variable NOPE is not set: nothing takes its place\nDIR/c.yml:1:20\n  secret-access-key: ***\n                     ^',
    ],
    [
      'exec: ${A:-dflt}\n',
      '${A…} vanishes: only plain ${NAME} is expanded, without defaults\nDIR/c.yml:1:7\n  exec: ${A:-dflt}\n        ^',
    ],
    [
      'exec: a$$b\n',
      '$$ is read as a variable that is not set and vanishes: there is no escape for $, use -no-expand-env or put the value in a variable\nDIR/c.yml:1:8\n  exec: a$$b\n         ^',
    ],
    [
      db('{path: r, region: x}'),
      'region has no effect on a replica of type file\nDIR/c.yml:4:27\n        - {path: r, region: x}\n                            ^',
    ],
  ])('are given for %j', async (text, warning) => {
    expect(await warnings(text, { env: { A: 'x' } })).toEqual([warning]);
  });

  it.each([
    '# costs $5 or $NOPE\n',
    'addr: "#" # $NOPE\n',
    'dbs:\n  - path: a\n    monitor-interval: 0\n',
    db('{path: r, region: $EMPTY}'),
  ])('are not given for %j', async (text) => {
    expect(await warnings(text, { env: { EMPTY: '' } })).toEqual([]);
  });
});

describe('against v0.3.13', () => {
  it.each([
    'dbs:\n  - path: a.db\n    replicas:\n      - url: s3://mybkt.localhost:9000/\n      - type: s3\n        name: x\n        bucket: c\n',
    'dbs:\n  - path: yes\n  - path: 0x10\n  - path: "~"\n  - path: ~/x\n  - path: ~root/x\n  - path: ../y//z/.\n',
    'dbs:\n  - path: a\n    path: b\n  - path: c\n    <<: {path: d}\n  - <<: [{path: e}, {path: f}]\n',
    'dbs:\n  - path: $VAR/${VAR}$NOPE/x\n    replicas:\n      - path: /p$/q$ r/$-x/${}y/${A B}z/$é/end$\n',
    'Dbs:\n  - path: x\n',
    '\ufeffdbs:\r\n  - path: crlf\r\n',
    'dbs:\n  - path: one\n---\ndbs:\n  - path: two\n',
    'dbs:\n  - path: a\n    min-checkpoint-page-count: 1.5\n    max-checkpoint-page-count: 012\n    monitor-interval: 1e3\n',
    'dbs: [{path: a, replicas: [{path: r, skip-verify: y, force-path-style: OFF}]}]\n',
  ])('resolves the same paths and names for %j', async (text) => {
    await withTempDir(async (dir) => {
      await mkdir(join(dir, 'sub'));
      const cwd = join(dir, 'sub');
      await writeFile(join(dir, 'c.yml'), text);
      const env = { VAR: 'value', PWD: cwd };
      const config = await loadConfig('../c.yml', { expandEnv: true, env, cwd });
      const { stdout, stderr } = await runLitestream({
        binary: 'oracle',
        args: ['databases', '-config', '../c.yml'],
        cwd,
        env,
      });
      expect(stderr).toBe('');
      const rows = stdout.trimEnd().split('\n').slice(1);
      expect(
        config.databases.map(({ path, replicas }) => [path, replicas.map(({ name }) => name).join()]),
      ).toEqual(
        rows.map((row) =>
          /^(\S+)\s+(.*)$/
            .exec(`${row} `)
            ?.slice(1)
            .map((cell) => cell.trim()),
        ),
      );
    });
  });

  it.each([
    db('type: wat'),
    db('url: /a/b'),
    db('url: s3:///foo'),
    db('url: "s3://a b/%zz"'),
    db('path: s3://b/p'),
    db('{path: x, url: "s3://b/p"}'),
    db('{path: x, url: "file:///b"}'),
    db('{bucket: x, url: "s3://b/p"}'),
    db('path: ""'),
    db('type: s3'),
    'dbs: foo\n',
    '- a\n',
    'foo\n',
    'dbs: [x]\n',
    'logging: foo\n',
    'exec: [a, b]\n',
    'dbs:\n  - path: a\n    replicas: {}\n',
    'dbs:\n  - min-checkpoint-page-count: yes\n    max-checkpoint-page-count: 99999999999999999999\n    monitor-interval: yes\n    checkpoint-interval: [1]\n    meta-path: {a: 1}\n',
    db(
      '{force-path-style: 5, skip-verify: "true", retention: "", validation-interval: "5", sync-interval: .inf}',
    ),
    'dbs: [\n',
    'dbs:\n\t- path: a\n',
    'dbs:\n  - path: a: b\n',
    'a: {b: c\n',
  ])('words the error the same for %j', async (text) => {
    await withTempDir(async (dir) => {
      await writeFile(join(dir, 'c.yml'), text);
      const { stdout, stderr } = await runLitestream({
        binary: 'oracle',
        args: ['databases', '-config', join(dir, 'c.yml')],
      });
      const error = /error=(".*"|\S+)$/m.exec(stdout + stderr)?.[1] ?? 'nothing';
      const headline = JSON.parse(error.startsWith('"') ? error : `"${error}"`) as string;
      await expect(load(dir, text)).rejects.toMatchObject({ headline });
    });
  });
});
