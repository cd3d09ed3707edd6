/** What a session is told of the database file by the one before it, and by what others leave in its place. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { awaitSettled, type FileTimes } from '../../src/engine/main-file.ts';
import { findRewrittenSince, noteMainFile, type Copied } from '../../src/engine/main-file-record.ts';
import { ShadowWal, emptyChain } from '../../src/engine/shadow-wal.ts';

const times: FileTimes = { sizeBytes: 4096n, modifiedNs: 1_700_000_000_123_456_789n };
const chain = { ...emptyChain(0), offset: 4152 };

let directory: string;
let shadow: ShadowWal;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'main-file-record-'));
  shadow = await ShadowWal.create(directory);
});
afterEach(async () => {
  await shadow.close();
  rmSync(directory, { recursive: true });
});

const view = (now: FileTimes): Copied['files'] => ({
  times: () => now,
  start: () => new Uint8Array(100),
  readWalIndex: () => undefined,
});
const find = (now: FileTimes): Promise<string | undefined> =>
  findRewrittenSince({ files: view(now), shadow, chain, pageSizeBytes: 4096 });

describe('the record of the database file', () => {
  it.each([
    ['the same', 0n, false],
    ['kept to the second', -123_456_789n, false],
    ['kept to the millisecond, rounded up', 543_211n, false],
    ['with the error of a floating point number', 240n, false],
    ['a second later', 1_000_000_000n, true],
    ['a microsecond and a half later', 1500n, true],
  ])('knows a file by its time: %s', async (_, laterNs, isAnother) => {
    await noteMainFile({ files: view(times), shadow, chain });
    const found = await find({ ...times, modifiedNs: times.modifiedNs + laterNs });
    expect(found !== undefined).toBe(isAnother);
  });

  it('knows another size', async () => {
    await noteMainFile({ files: view(times), shadow, chain });
    expect(await find({ ...times, sizeBytes: 8192n })).toMatch(/overwritten or copied/);
  });

  it.each([
    '',
    '{',
    'null',
    '[]',
    '{"version":1}',
    '{"version":1,"index":0,"sizeBytes":"x","modifiedNs":"1"}',
  ])('is none when it is %j, which keeps no database from being opened', async (text) => {
    writeFileSync(join(shadow.path, 'database.json'), text);
    expect(await find(times)).toBeUndefined();
  });
});

it('a file that is written to all the time is not waited for for ever', async () => {
  vi.useFakeTimers();
  try {
    let looks = 0n;
    const settled = awaitSettled({ times: () => ({ ...times, modifiedNs: looks++ }) });
    await vi.advanceTimersByTimeAsync(60_000);
    await settled;
    expect(looks).toBeGreaterThan(10n);
  } finally {
    vi.useRealTimers();
  }
});
