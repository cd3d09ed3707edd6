/** The result of the last verification outlives the process. */

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readVerification, writeVerification } from '../../src/engine/verification-record.ts';

it('is kept for each replica, whatever its name, and what makes no sense is none', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'verification-'));
  try {
    const meta = join(directory, 'meta');
    expect(await readVerification(meta, 'a/b')).toBeUndefined();
    const ok = { at: '2026-01-01T00:00:00.000Z', result: 'ok', message: 'fine' } as const;
    const failed = { ...ok, result: 'failed', message: 'page 3 differs' } as const;
    await writeVerification(meta, 'a/b', ok);
    await writeVerification(meta, 'c', failed);
    expect(await readVerification(meta, 'a/b')).toEqual(ok);
    expect(await readVerification(meta, 'c')).toEqual(failed);
    for (const name of readdirSync(meta)) {
      for (const text of [
        '',
        '[]',
        JSON.stringify({ ...ok, result: 'maybe' }),
        JSON.stringify({ ...ok, at: 'x' }),
      ]) {
        writeFileSync(join(meta, name), text);
        expect(await readVerification(meta, 'c')).toEqual(name.includes('-c.') ? undefined : failed);
      }
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});
