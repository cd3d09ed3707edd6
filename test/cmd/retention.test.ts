/** `litestream retention` on a replica of files whose times are set: what goes, what stays, and what is printed. */

import { promises as fs } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { withTempDir } from '../support/process.ts';
import { snapshotObject } from '../support/snapshot-object.ts';
import { runOurs } from './compare.ts';

const HOUR_MS = 3600_000;
const OLD = 'aaaaaaaaaaaaaaaa';
const NEW = 'bbbbbbbbbbbbbbbb';
const SNAPSHOT_SIZE = String(snapshotObject(NEW, 0).byteLength);

/** Objects by key with their age in hours. */
const OBJECTS: Record<string, number> = {
  [snapshotKey(OLD, 0)]: 90,
  [segmentKey(OLD, 0, 0)]: 89,
  [snapshotKey(NEW, 0)]: 80,
  [segmentKey(NEW, 0, 0)]: 79,
  [segmentKey(NEW, 1, 0)]: 60,
  [snapshotKey(NEW, 2)]: 40,
  [segmentKey(NEW, 2, 0)]: 40,
  [snapshotKey(NEW, 3)]: 10,
  [segmentKey(NEW, 3, 0)]: 10,
};
/** Of a window of 24 hours. */
const STAY = [snapshotKey(NEW, 2), segmentKey(NEW, 2, 0), snapshotKey(NEW, 3), segmentKey(NEW, 3, 0)].sort();

interface Place {
  readonly config: string;
  readonly replica: string;
  readonly database: string;
  readonly stored: () => Promise<string[]>;
}

function withReplica(use: (place: Place) => Promise<void>): Promise<void> {
  return withTempDir(async (dir) => {
    const replica = join(dir, 'replica');
    for (const [key, ageHours] of Object.entries(OBJECTS)) {
      const path = join(replica, key);
      await fs.mkdir(dirname(path), { recursive: true });
      const [, generation = '', index = ''] = /(\w+)\/snapshots\/(\w+)/.exec(key) ?? [];
      const isSnapshot = generation !== '';
      await fs.writeFile(path, isSnapshot ? snapshotObject(generation, Number.parseInt(index, 16)) : 'four');
      const at = new Date(Date.now() - ageHours * HOUR_MS);
      await fs.utimes(path, at, at);
    }
    const config = join(dir, 'litestream.yml');
    const lines = [`dbs:`, `  - path: ${dir}/a.db`, '    replicas:', `      - path: ${replica}`];
    await fs.writeFile(config, `${lines.join('\n')}\n        retention: 24h\n`);
    const stored = async (): Promise<string[]> =>
      (await fs.readdir(replica, { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(replica.length + 1))
        .sort();
    await use({ config, replica, database: join(dir, 'a.db'), stored });
  });
}

describe('retention', () => {
  it('removes what uploads that died have left, unless it only says what would go', async () => {
    await withReplica(async ({ config, database, stored, replica }) => {
      const abandoned = `${segmentKey(NEW, 3, 0)}.tmp`;
      await fs.writeFile(join(replica, abandoned), 'part');
      const at = new Date(Date.now() - 25 * HOUR_MS);
      await fs.utimes(join(replica, abandoned), at, at);
      expect((await runOurs(['retention', '-dry-run', '-config', config, database])).code).toBe(0);
      expect(await stored()).toContain(abandoned);
      expect((await runOurs(['retention', '-config', config, database])).code).toBe(0);
      expect(await stored()).toEqual(STAY);
    });
  });

  it('says what would go and why, and deletes nothing, with -dry-run', async () => {
    await withReplica(async ({ config, database, stored }) => {
      const args = ['retention', '-dry-run', '-config', config];
      const { code, stdout, stderr } = await runOurs([...args, database]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const rows = stdout
        .trim()
        .split('\n')
        .map((line) => line.split(/ {2,}/));
      expect(rows.map((row) => row.slice(0, 7))).toEqual([
        ['replica', 'generation', 'kind', 'min_index', 'max_index', 'objects', 'size'],
        ['file', NEW, 'snapshot', '0', '0', '1', SNAPSHOT_SIZE],
        ['file', NEW, 'wal', '0', '1', '2', '8'],
        ['file', OLD, 'snapshot', '0', '0', '1', SNAPSHOT_SIZE],
        ['file', OLD, 'wal', '0', '0', '1', '4'],
      ]);
      expect(rows[1]?.[8]).toMatch(/^the window is restored from snapshot 2 of \d{4}-/);
      expect(rows[3]?.[8]).toMatch(/^older than the window; generation b{16} has a snapshot of \d{4}-/);
      const json = JSON.parse((await runOurs([...args, '-json', database])).stdout) as { kind: string }[];
      expect(json).toHaveLength(4);
      expect(json[1]).toMatchObject({ generation: NEW, kind: 'wal', min_index: 0, max_index: 1, size: 8 });
      expect(await stored()).toEqual(Object.keys(OBJECTS).sort());
    });
  });

  it('deletes what is outside the window, once', async () => {
    await withReplica(async ({ config, database, stored }) => {
      const args = ['retention', '-config', config, database];
      const first = await runOurs(args);
      expect(first.code).toBe(0);
      expect(first.stdout).toContain('objects=5');
      expect(await stored()).toEqual(STAY);
      const second = await runOurs(args);
      expect(second.code).toBe(0);
      expect(second.stdout.trim().split('\n')).toHaveLength(1);
      expect(await stored()).toEqual(STAY);
    });
  });

  it('takes the window from -retention, and does not guess one for a replica URL', async () => {
    await withReplica(async ({ config, replica, database, stored }) => {
      const wide = await runOurs(['retention', '-config', config, '-retention', '1000h', database]);
      expect(wide).toMatchObject({ code: 0 });
      const unsaid = await runOurs(['retention', `file://${replica}`]);
      expect(unsaid.code).toBe(1);
      expect(unsaid.stderr).toContain('give -retention DURATION');
      const bad = await runOurs(['retention', '-retention', 'soon', `file://${replica}`]);
      expect(bad.stderr).toContain('invalid -retention');
      expect(await stored()).toEqual(Object.keys(OBJECTS).sort());
      expect((await runOurs(['retention', '-retention', '24h', `file://${replica}`])).code).toBe(0);
      expect(await stored()).toEqual(STAY);
    });
  });
});
