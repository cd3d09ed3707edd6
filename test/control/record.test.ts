/** Whose record it is, and whether that process lives. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type ProcessRecord,
  describeThisProcess,
  lifeOf,
  readRecord,
  removeRecord,
  writeRecord,
} from '../../src/control/record.ts';
import { fitsSocket, runtimeSocketPath } from '../../src/control/socket-path.ts';

let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'record-'))));
afterEach(() => rmSync(directory, { recursive: true }));

const own = (): ProcessRecord => describeThisProcess('2026-01-01T00:00:00.000Z', '/x.sock');

describe('a record', () => {
  it('is there from its writing to its removal by the same process', async () => {
    expect(await readRecord(directory)).toBeUndefined();
    await writeRecord(directory, own());
    expect(await readRecord(directory)).toEqual(own());
    await removeRecord(directory);
    expect(readdirSync(directory)).toEqual([]);
    await writeRecord(directory, { ...own(), pid: process.pid + 1 });
    await removeRecord(directory);
    expect(await readRecord(directory)).toBeDefined();
  });

  it.each(['', '{', '[]', '"x"', '{"pid":"1"}'])('of %j is none', async (text) => {
    writeFileSync(join(directory, 'replicate.json'), text);
    expect(await readRecord(directory)).toBeUndefined();
  });
});

describe('the process of a record', () => {
  it('is alive, dead, or not for us to know', async () => {
    expect(lifeOf(own())).toBe('alive');
    expect(lifeOf({ ...own(), bootId: 'another' })).toBe('dead');
    expect(lifeOf({ ...own(), bootId: 'another', hostname: 'another' })).toBe('unknown');
    expect(lifeOf({ ...own(), pidNamespace: 'another' })).toBe('unknown');
    const child = spawn('sleep', ['60']);
    const record = { ...own(), pid: child.pid ?? 0, startTicks: null };
    expect(lifeOf(record)).toBe('alive');
    // A later process of the same number.
    if (process.platform === 'linux') expect(lifeOf({ ...record, startTicks: '1' })).toBe('dead');
    child.kill();
    await once(child, 'exit');
    expect(lifeOf(record)).toBe('dead');
  });
});

describe('the path of a socket that would be too long', () => {
  it('is in the runtime folder of the user, the same each time', () => {
    const wanted = `/${'d'.repeat(200)}/control.sock`;
    expect(fitsSocket(wanted)).toBe(false);
    const path = runtimeSocketPath(wanted, { XDG_RUNTIME_DIR: directory });
    expect(path).toBe(runtimeSocketPath(wanted, { XDG_RUNTIME_DIR: directory }));
    expect(path).not.toBe(runtimeSocketPath(`${wanted}2`, { XDG_RUNTIME_DIR: directory }));
    expect(path.startsWith(`${directory}/litestream-`)).toBe(true);
    expect(fitsSocket(path)).toBe(true);
    const without = runtimeSocketPath(wanted, {});
    expect(without.startsWith(`${tmpdir()}/litestream-`)).toBe(true);
  });
});
