/** Objects that somebody has put under names of far indexes: what is connected is restored, at once, and they are named. */

import { promises as fs } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { runLitestream } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { withSqlite } from '../support/sqlite.ts';

const LAST_INDEX = 0xffffffff;

/** A replica that is whole: its generation. */
async function replicate(rig: Rig): Promise<string> {
  const application = await rig.application();
  await application.exec('CREATE TABLE commits (n INTEGER); INSERT INTO commits VALUES (1)');
  const litestream = await rig.replicate();
  await rig.caughtUp();
  await application.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  await application.exec('INSERT INTO commits VALUES (2)');
  await rig.caughtUp();
  expect((await litestream.stop()).code).toBe(0);
  return (await rig.generation())!;
}

async function put(rig: Rig, key: string, content: Uint8Array | string): Promise<void> {
  await fs.mkdir(dirname(join(rig.replica, key)), { recursive: true });
  await fs.writeFile(join(rig.replica, key), content);
}

const contents = (rig: Rig, generation: string): Record<string, () => Promise<Uint8Array> | string> => ({
  'an empty one': () => '',
  'something else': () => 'x'.repeat(200),
  'a copy of another one': () => fs.readFile(join(rig.replica, segmentKey(generation, 1, 0))),
});

describe.each([
  ['WAL', (generation: string) => segmentKey(generation, LAST_INDEX, 0)],
  ['a snapshot', (generation: string) => snapshotKey(generation, LAST_INDEX)],
])('under the name of %s of the last index', (_, keyIn) => {
  it.each(['an empty one', 'something else', 'a copy of another one'])(
    'what is connected is restored and shown, and it is told of: %s',
    async (content) => {
      await withRig(async (rig) => {
        const generation = await replicate(rig);
        const key = keyIn(generation);
        await put(rig, key, await contents(rig, generation)[content]!());
        const { code, path, stdout, stderr } = await rig.restore();
        expect(code, stderr).toBe(0);
        expect(stdout + stderr).toMatch(new RegExp(`WARN.*${key}.*left out`));
        const rows = await withSqlite({ path, readonly: true }, (sqlite) =>
          sqlite.all('SELECT max(n) AS n FROM commits'),
        );
        expect(rows).toEqual([{ n: 2 }]);
        const url = `file://${rig.replica}`;
        const timeline = await runLitestream({ binary: 'ours', args: ['timeline', url] });
        expect(timeline.code).toBe(0);
        expect(timeline.stdout).not.toContain(String(LAST_INDEX));
        expect(timeline.stderr).toContain(`note: ${key} is left out`);
        const verify = await runLitestream({ binary: 'ours', args: ['verify', '-replica-only', url] });
        expect(verify.code).not.toBe(0);
        expect(verify.stdout + verify.stderr).toContain(key);
      });
    },
  );
});

describe('a hole before what belongs to the generation', () => {
  it('is an error at once, however many indexes are missing', async () => {
    await withRig(async (rig) => {
      const generation = await replicate(rig);
      // As v0.3.13 has it: nothing tells that it does not belong there.
      const ours = await fs.readFile(join(rig.replica, segmentKey(generation, 1, 0)));
      const wal = encodeLz4FrameBytes(decodeLz4FrameBytes(ours));
      await put(rig, segmentKey(generation, LAST_INDEX, 0), wal);
      const { code, stdout, stderr } = await rig.restore();
      expect(code).toBe(1);
      expect(stdout + stderr).toContain(`missing WAL segment ${segmentKey(generation, 2, 0)}`);
      const best = await rig.restore({ args: ['-best-effort'] });
      expect(best.code, best.stderr).toBe(0);
    });
  });
});
