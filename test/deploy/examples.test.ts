/**
 * The examples under etc/ are what `litestream init` prints for two projects; `npx vitest run test/deploy/examples.test.ts
 * -u` writes them anew. They must be what their programs read, and their commands must do what they say.
 */

import { spawn } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { until } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';
import { ROOT, hasProgram, run } from './opt-folder.ts';

const LITESTREAM = join(ROOT, 'bin/litestream');
const RAILS = ['primary', 'cache', 'queue', 'cable'];

let dir: string;
/** A Node.js application with one database, and a Rails application with four. */
let node: string;
let rails: string;

beforeAll(async () => {
  dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'litestream-examples-')));
  [node, rails] = [join(dir, 'node/myapp'), join(dir, 'rails/myapp')];
  await fs.mkdir(node, { recursive: true });
  await fs.mkdir(join(rails, 'config'), { recursive: true });
  const entries = RAILS.map((name) => {
    const suffix = name === 'primary' ? '' : `_${name}`;
    return `  ${name}: {adapter: sqlite3, database: storage/production${suffix}.sqlite3}\n`;
  });
  await fs.writeFile(join(rails, 'config/database.yml'), `production:\n${entries.join('')}`);
});

afterAll(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

async function init(cwd: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(process.execPath, [LITESTREAM, 'init', ...args], { cwd });
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

const provider = ['-provider', 'aws', '-region', 'eu-central-1'];
const onHetzner = ['-provider', 'hetzner', '-region', 'fsn1'];

describe('examples', () => {
  it.each<[string, () => Promise<string>]>([
    ['litestream.yml', () => init(node, ...provider, '-o', '-', 'data/app.db')],
    ['Procfile', () => init(node, ...provider, '-procfile', 'data/app.db')],
    ['docker/Dockerfile.app', () => init(node, ...provider, '-docker', 'data/app.db')],
    ['kubernetes/statefulset.yaml', () => init(node, ...provider, '-k8s', 'data/app.db')],
    ['kubernetes/litestream.yml', () => init(node, ...provider, '-root', '/app', '-o', '-', 'data/app.db')],
    ['kamal/accessory.yml', () => init(rails, ...onHetzner, '-kamal')],
    ['kamal/litestream.yml', () => init(rails, ...onHetzner, '-root', '/rails', '-o', '-')],
  ])('etc/%s', async (name, print) => {
    await expect(await print()).toMatchFileSnapshot(join(ROOT, 'etc', name));
  });
});

async function yaml(name: string): Promise<unknown> {
  return parse(await fs.readFile(join(ROOT, 'etc', name), 'utf8'), { merge: true });
}

describe('Kamal', () => {
  it('reads an accessory with a volume, the config and secrets by name', async () => {
    expect(await yaml('kamal/accessory.yml')).toEqual({
      accessories: {
        litestream: {
          image: 'litestream-ts',
          host: 'SERVER_IP',
          cmd: 'replicate',
          volumes: ['myapp_storage:/rails/storage'],
          files: ['config/litestream.yml:/etc/litestream.yml'],
          env: {
            secret: ['LITESTREAM_REPLICA_BUCKET', 'LITESTREAM_ACCESS_KEY_ID', 'LITESTREAM_SECRET_ACCESS_KEY'],
          },
          options: {
            'health-cmd': 'litestream databases || exit 1',
            'health-interval': '30s',
            'health-timeout': '5s',
            'health-retries': 3,
            'stop-timeout': 20,
          },
        },
      },
    });
  });
});

interface Container {
  readonly name: string;
  readonly args?: readonly string[];
  readonly restartPolicy?: string;
  readonly env?: readonly { name: string }[];
  readonly volumeMounts: readonly { name: string; mountPath: string }[];
}

interface StatefulSet {
  readonly spec: {
    readonly replicas: number;
    readonly template: {
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly initContainers: readonly Container[];
        readonly containers: readonly Container[];
        readonly volumes: readonly { name: string }[];
      };
    };
    readonly volumeClaimTemplates: readonly { metadata: { name: string } }[];
  };
}

describe('Kubernetes', () => {
  it('restores, then replicates beside the application, on volumes that are there', async () => {
    const { spec } = (await yaml('kubernetes/statefulset.yaml')) as StatefulSet;
    const pod = spec.template.spec;
    expect(spec.replicas).toBe(1);
    expect(pod.initContainers.map(({ name, args, restartPolicy }) => [name, args, restartPolicy])).toEqual([
      ['restore', ['restore', '-if-db-not-exists', '-if-replica-exists', '/app/data/app.db'], undefined],
      ['litestream', ['replicate'], 'Always'],
    ]);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(20);
    const volumes = [...pod.volumes, ...spec.volumeClaimTemplates.map(({ metadata }) => metadata)];
    const known = volumes.map(({ name }) => name);
    for (const { volumeMounts } of [...pod.initContainers, ...pod.containers]) {
      for (const { name } of volumeMounts) expect(known).toContain(name);
    }
    const [restore, sidecar] = pod.initContainers;
    expect(sidecar).toMatchObject({ env: restore?.env, volumeMounts: restore?.volumeMounts });
  });

  it('takes all files as one set', async (test) => {
    test.skip(!(await hasProgram('kubectl')), 'no kubectl');
    const folder = join(dir, 'kustomize');
    await fs.mkdir(folder);
    await fs.copyFile(join(ROOT, 'etc/kubernetes/statefulset.yaml'), join(folder, 'statefulset.yaml'));
    await fs.writeFile(join(folder, 'kustomization.yaml'), 'resources: [statefulset.yaml]\n');
    const { code, stderr } = await run('kubectl', ['kustomize', folder]);
    expect(code, stderr).toBe(0);
  });
});

/** A folder with the application `server.js`, the config for a file replica, and the command as these files call it. */
async function application(name: string): Promise<string> {
  const folder = join(dir, name);
  await fs.mkdir(join(folder, 'node_modules/.bin'), { recursive: true });
  await fs.mkdir(join(folder, 'bin'));
  await fs.mkdir(join(folder, 'data'));
  for (const link of ['node_modules/.bin/litestream', 'bin/litestream']) {
    await fs.symlink(LITESTREAM, join(folder, link));
  }
  const path = join(folder, 'data/app.db');
  await fs.writeFile(
    join(folder, 'litestream.yml'),
    `dbs:\n  - path: ${path}\n    replicas:\n      - {path: ${folder}/replica, sync-interval: 20ms}\n`,
  );
  const rowsOf = `new (require(${JSON.stringify(createRequire(import.meta.url).resolve('better-sqlite3'))}))('${path}')`;
  await fs.writeFile(
    join(folder, 'server.js'),
    `const database = ${rowsOf};\n` +
      "database.pragma('journal_mode = WAL');\n" +
      "database.exec('CREATE TABLE IF NOT EXISTS starts (n INTEGER PRIMARY KEY)');\n" +
      "database.exec('INSERT INTO starts DEFAULT VALUES');\n" +
      "console.log('starts: ' + database.prepare('SELECT count(*) AS n FROM starts').get().n);\n" +
      "process.on('SIGTERM', () => process.exit(0));\n" +
      'setInterval(() => undefined, 1000);\n',
  );
  return folder;
}

/** Runs a shell's line in a folder until `said` and then ends it as its supervisor would. */
async function live(line: string, cwd: string, said: () => Promise<boolean>): Promise<string> {
  const env = { HOME: process.env['HOME'], PATH: `${cwd}/bin:${process.env['PATH'] ?? ''}`, TZ: 'UTC' };
  const full = { ...env, LITESTREAM_CONFIG: join(cwd, 'litestream.yml') };
  const child = spawn('/bin/sh', ['-c', line], { cwd, env: full });
  let log = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  try {
    await until(async () => log.includes('starts: ') && (await said()), { describe: () => log });
  } finally {
    child.kill('SIGTERM');
  }
  await exited;
  return log;
}

async function stored(folder: string): Promise<boolean> {
  const names = await fs.readdir(join(folder, 'replica/generations'), { recursive: true }).catch(() => []);
  return (
    names.some((name) => name.endsWith('.wal.lz4')) && names.some((name) => name.endsWith('.snapshot.lz4'))
  );
}

describe('the command of the Dockerfile', () => {
  it('starts the application on an empty volume, and on the next empty volume with its data', async () => {
    const folder = await application('docker');
    const dockerfile = await fs.readFile(join(ROOT, 'etc/docker/Dockerfile.app'), 'utf8');
    const line =
      /^CMD ([\s\S]*)$/m.exec(dockerfile)?.[1]?.replaceAll('/app/data', join(folder, 'data')) ?? '';
    expect(await live(line, folder, () => stored(folder))).toContain('starts: 1\n');
    await fs.rm(join(folder, 'data'), { recursive: true });
    await fs.mkdir(join(folder, 'data'));
    expect(await live(line, folder, () => Promise.resolve(true))).toContain('starts: 2\n');
  });
});

describe.each(['Procfile', 'PM2'])('%s', (kind) => {
  /** Command lines by process. */
  async function commands(): Promise<Record<string, string>> {
    if (kind === 'Procfile') {
      const lines = (await fs.readFile(join(ROOT, 'etc/Procfile'), 'utf8')).trimEnd().split('\n');
      return Object.fromEntries(lines.map((line) => line.split(/: (.*)/).slice(0, 2) as [string, string]));
    }
    const { apps } = createRequire(import.meta.url)(join(ROOT, 'etc/pm2/ecosystem.config.cjs')) as {
      apps: { name: string; script: string; args: string | string[]; instances?: number }[];
    };
    return Object.fromEntries(
      apps.map(({ name, script, args }) => {
        const words = typeof args === 'string' ? args : args.map((word) => `'${word}'`).join(' ');
        return [name === 'app' ? 'web' : name, `exec ${script} ${words}`];
      }),
    );
  }

  it('starts the application after its data is back, and replication beside it', async () => {
    const folder = await application(kind);
    const { web = '', litestream = '' } = await commands();
    const replicator = spawn('/bin/sh', ['-c', `exec ${litestream.replace(/^exec /, '')}`], {
      cwd: folder,
      env: { PATH: `${folder}/bin:${process.env['PATH'] ?? ''}`, TZ: 'UTC' },
    });
    const exited = new Promise<void>((resolve) => replicator.once('exit', () => resolve()));
    try {
      expect(await live(web, folder, () => stored(folder))).toContain('starts: 1\n');
    } finally {
      replicator.kill('SIGTERM');
      await exited;
    }
    await fs.rm(join(folder, 'data'), { recursive: true });
    await fs.mkdir(join(folder, 'data'));
    expect(await live(web, folder, () => Promise.resolve(true))).toContain('starts: 2\n');
    const rows = await withSqlite({ path: join(folder, 'data/app.db'), readonly: true }, (sqlite) =>
      sqlite.all('SELECT count(*) AS n FROM starts'),
    );
    expect(rows).toEqual([{ n: 2 }]);
  });
});

describe('Fly', () => {
  it('has its volume where the config looks, and time to stop', async () => {
    const toml = await fs.readFile(join(ROOT, 'etc/fly/fly.toml'), 'utf8');
    const value = (key: string): string => new RegExp(`^${key} = "(.*)"$`, 'm').exec(toml)?.[1] ?? '';
    expect(value('destination')).toBe('/app/data');
    expect([value('kill_signal'), value('kill_timeout')]).toEqual(['SIGTERM', '20s']);
  });
});
