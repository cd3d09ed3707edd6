/** databases, generations, snapshots and wal on a replica that v0.3.13 made, compared with what it prints itself. */

import { execFile } from 'node:child_process';
import { mkdtempSync, promises as fs, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeFixture, runOracle, runOurs } from './compare.ts';
import type { Fixture } from './compare.ts';

const LITESTREAM = fileURLToPath(new URL('../../bin/litestream', import.meta.url));

let fixture: Fixture;
const dir = realpathSync(mkdtempSync(join(tmpdir(), 'litestream-cmd-')));

beforeAll(async () => {
  fixture = await makeFixture(dir);
  // Whole seconds, so that both cut the lag alike.
  const files = await fs.readdir(dir, { recursive: true });
  const times = { old: new Date('2021-01-02T03:04:05Z'), changed: new Date('2021-01-02T03:04:17Z') };
  for (const file of files) {
    const path = join(dir, file);
    if (/\.lz4$/.test(file)) await fs.utimes(path, times.old, times.old);
    if (/^a\.db(-wal)?$/.test(file)) await fs.utimes(path, times.changed, times.changed);
  }
  await fs.mkdir(join(dir, 'rep/generations/not-a-generation/wal'), { recursive: true });
  await fs.writeFile(join(dir, 'rep/generations/not-a-generation/wal/00000000_00000000.wal.lz4'), '');
});

afterAll(() => fs.rm(dir, { recursive: true }));

const options = (): { cwd: string } => ({ cwd: dir });

describe('the same as v0.3.13', () => {
  const cases: [string, string[]][] = [
    ['databases', ['databases', '-config', 'litestream.yml']],
    ...['generations', 'snapshots', 'wal'].flatMap((command): [string, string[]][] => [
      [`${command} of a database`, [command, '-config', 'litestream.yml', 'a.db']],
      [`${command} by absolute path`, [command, '-config', 'litestream.yml', join(dir, 'a.db')]],
      [`${command} of one replica`, [command, '-config', 'litestream.yml', '-replica', 'two', 'a.db']],
      [`${command} of an unknown replica`, [command, '-config', 'litestream.yml', '-replica', 'zzz', 'a.db']],
      [`${command} of an unknown database`, [command, '-config', 'litestream.yml', 'zzz.db']],
      [`${command} without the database file`, [command, '-config', 'litestream.yml', 'b.db']],
      [`${command} of a missing folder`, [command, `file://${dir}/nowhere`]],
    ]),
    ['snapshots of a URL', ['snapshots', `file://${dir}/rep`]],
    ['snapshots of a URL, -replica ignored', ['snapshots', '-replica', 'zzz', `file://${dir}/rep`]],
    ['wal of a URL', ['wal', `file://${dir}/rep`]],
    ['wal of an unknown generation', ['wal', '-generation', '0123456789abcdef', `file://${dir}/rep`]],
    ['wal of an invalid generation', ['wal', '-generation', 'zzz', `file://${dir}/rep`]],
  ];
  test.each(cases)('%s', async (_, args) => {
    expect(await runOurs(args, options())).toEqual(await runOracle(args, options()));
  });

  test('wal of one generation', async () => {
    const [generation = ''] = (await fs.readdir(join(dir, 'rep/generations'))).sort();
    const args = ['wal', '-generation', generation, '-config', 'litestream.yml', 'a.db'];
    const ours = await runOurs(args, options());
    expect(ours).toEqual(await runOracle(args, options()));
    expect(ours.stdout.split('\n').length).toBeGreaterThan(2);
  });

  test('generations of a URL: the lag is counted to now', async () => {
    const args = ['generations', `file://${dir}/rep`];
    // The lag's length may change between the two runs, and with it the width of its column.
    const mask = (text: string): string => text.replaceAll(/\d+h\d+m\d+s/g, 'LAG').replaceAll(/ +/g, ' ');
    const [ours, theirs] = [await runOurs(args), await runOracle(args)];
    expect(mask(ours.stdout)).toContain(' LAG 2021-01-02T03:04:05Z');
    expect(mask(ours.stdout)).toBe(mask(theirs.stdout));
  });

  test('the log channel that the config asks for', async () => {
    const config = await fs.readFile(fixture.config, 'utf8');
    for (const logging of ['{stderr: true}', '{type: json}', '{type: json, stderr: true}']) {
      await fs.writeFile(join(dir, 'logging.yml'), `${config}logging: ${logging}\n`);
      const args = ['wal', '-config', 'logging.yml', 'zzz.db'];
      expect(await runOurs(args, options())).toEqual(await runOracle(args, options()));
    }
  });
});

describe('ours alone', () => {
  test('flags after the argument, and -database', async () => {
    const expected = await runOurs(['wal', '-config', 'litestream.yml', 'a.db'], options());
    expect(expected.code).toBe(0);
    expect(await runOurs(['wal', 'a.db', '-config', 'litestream.yml'], options())).toEqual(expected);
    expect(await runOurs(['wal', '-database', 'a.db', '-config=litestream.yml'], options())).toEqual(
      expected,
    );
    const both = await runOurs(['wal', '-database', 'a.db', '-config=litestream.yml', 'a.db'], options());
    expect(both.stderr).toContain('too many arguments');
  });

  test('databases -json', async () => {
    const { code, stdout, stderr } = await runOurs(
      ['databases', '-json', '-config', 'litestream.yml'],
      options(),
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual([
      { path: join(dir, 'a.db'), replicas: ['file', 'two'] },
      { path: join(dir, 'b.db'), replicas: [] },
    ]);
  });

  test('-json holds what the table holds, typed', async () => {
    for (const command of ['generations', 'snapshots', 'wal']) {
      const args = [command, '-config', 'litestream.yml', 'a.db'];
      const table = (await runOurs(args, options())).stdout.trimEnd().split('\n');
      const [header = [], ...rows] = table.map((line) => line.split(/ +/));
      const objects = JSON.parse((await runOurs([...args, '-json'], options())).stdout) as Record<
        string,
        unknown
      >[];
      expect(rows.length).toBeGreaterThan(2);
      expect(objects).toEqual(
        rows.map((row) => Object.fromEntries(header.map((key, i) => [key, typed(key, row[i] ?? '')]))),
      );
    }
  });

  test('an error with -json leaves standard output alone', async () => {
    const args = ['wal', '-json', '-config', 'litestream.yml', 'zzz.db'];
    const { code, stdout, stderr } = await runOurs(args, options());
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('database not found in config');
  });

  test("the config's warnings keep off the table", async () => {
    const config = await fs.readFile(fixture.config, 'utf8');
    await fs.writeFile(join(dir, 'odd.yml'), `${config}wat: 1\n`);
    const { code, stdout, stderr } = await runOurs(['databases', '-config', 'odd.yml'], options());
    const clean = await runOurs(['databases', '-config', 'litestream.yml'], options());
    expect({ code, stdout }).toEqual({ code: 0, stdout: clean.stdout });
    expect(stderr).toMatch(/^time=TIME level=WARN msg=.*wat.* at=\S+odd\.yml:\d+:1\n {2}wat: 1\n {2}\^\n$/);
  });

  test('a log of JSON lines stays one', async () => {
    const log = 'logging: {type: json, stderr: true}\nwat: 1\n';
    for (const [dbs, code] of [
      ['[]', 0],
      ['[{path: a.db, replicas: [{type: wat}]}]', 1],
    ] as const) {
      await fs.writeFile(join(dir, 'json.yml'), `${log}dbs: ${dbs}\n`);
      const ours = await runOurs(['databases', '-config', 'json.yml'], options());
      expect(ours.code).toBe(code);
      const lines = ours.stderr.trimEnd().split('\n');
      expect(lines.map((line) => JSON.parse(line) as unknown)).not.toEqual([]);
    }
  });

  test('an error of the config is logged whole, then shown in its place', async () => {
    await fs.writeFile(join(dir, 'bad.yml'), 'dbs:\n  - path: a.db\n    monitor-interval: xyz\n');
    const args = ['databases', '-config', 'bad.yml'];
    const [ours, theirs] = [await runOurs(args, options()), await runOracle(args, options())];
    const place = `${dir}/bad.yml:3:23\n      monitor-interval: xyz\n                        ^\n`;
    expect(ours).toEqual({ ...theirs, stderr: theirs.stderr + place });
  });

  test('a replica that cannot be reached: the others are listed, exit code 1', async () => {
    const config =
      'dbs:\n  - path: a.db\n    replicas:\n' +
      '      - {type: s3, bucket: b, path: p, endpoint: "http://127.0.0.1:9", access-key-id: a, secret-access-key: s}\n' +
      `      - {path: ${dir}/rep}\n`;
    await fs.writeFile(join(dir, 'dead.yml'), config);
    for (const command of ['generations', 'snapshots', 'wal']) {
      const args = [command, '-config', 'dead.yml', 'a.db'];
      const [ours, theirs] = [await runOurs(args, options()), await runOracle(args, options())];
      expect([theirs.code, ours.code, ours.stderr]).toEqual([0, 1, '']);
      const [error = '', ...table] = ours.stdout.split('\n');
      const [theirError = '', ...theirTable] = theirs.stdout.split('\n');
      expect(table).toEqual(theirTable);
      expect(error.split(' error=')[0]).toContain(theirError.split(' error=')[0]?.split(' db=')[0]);
    }
  });

  test('a reader that leaves early gets no stack trace', async () => {
    const run = promisify(execFile);
    const command = `"$0" "${LITESTREAM}" wal "file://${dir}/rep" | true; exit "\${PIPESTATUS[0]}"`;
    for (let attempt = 0; attempt < 3; attempt++) {
      const result = await run('bash', ['-c', command, process.execPath]).catch((error: unknown) => error);
      const { stderr, code = 0 } = result as { stderr: string; code?: number };
      expect(stderr).toBe('');
      expect([0, 141]).toContain(code);
    }
  });
});

/** The JSON value of a table's cell. */
function typed(key: string, cell: string): unknown {
  if (['index', 'offset', 'size'].includes(key)) return Number(cell);
  // The fixture's times are whole seconds.
  if (['created', 'start', 'end'].includes(key)) return cell.replace('Z', '.000Z');
  return key === 'lag' ? Number(cell.replace('s', '')) * 1000 : cell;
}
