/** Which program runs the child, in an application that runs on something else than Node.js. */

import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeProgram } from '../../src/library/node-program.ts';

let dir: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'node-program-')));
});
afterEach(() => {
  Reflect.deleteProperty(process.versions, 'bun');
  rmSync(dir, { recursive: true });
});

/** As Bun has it. */
function onBun(): void {
  Object.defineProperty(process.versions, 'bun', { value: '1.4.5', configurable: true });
}

/** A folder with a `node` that answers with this. */
function folder(name: string, answer: object | string): string {
  const path = join(dir, name);
  mkdirSync(path);
  const text = typeof answer === 'string' ? answer : JSON.stringify(answer);
  // Nothing but the shell itself: there is no other program on its PATH.
  writeFileSync(join(path, 'node'), `#!/bin/sh\necho '${text}'\n`);
  chmodSync(join(path, 'node'), 0o755);
  return path;
}

const pathOf = (...folders: string[]): Promise<string> => nodeProgram({ PATH: folders.join(delimiter) });

describe('the program of the child', () => {
  it('is that of the application on Node.js, whatever the PATH has', async () => {
    expect(await pathOf(folder('a', { node: '24.15.0', sqlite: '3.51.3' }))).toBe(process.execPath);
  });

  it('is the first Node.js with a good SQLite elsewhere', async () => {
    onBun();
    const folders = [
      join(dir, 'none'),
      folder('other', {}),
      folder('mute', 'not JSON'),
      folder('old', { node: '18.20.0' }),
      folder('without', { node: '20.20.0' }),
      folder('early', { node: '22.5.0', sqlite: '3.46.0' }),
      folder('good', { node: '24.15.0', sqlite: '3.51.3' }),
      folder('late', { node: '26.0.0', sqlite: '3.53.0' }),
    ];
    expect(await pathOf(...folders)).toBe(join(dir, 'good', 'node'));
    // They may have better-sqlite3.
    expect(await pathOf(...folders.slice(0, 6))).toBe(join(dir, 'without', 'node'));
  });

  it('is really asked', async () => {
    onBun();
    const own = dirname(process.execPath);
    expect(await pathOf(own)).toBe(join(own, 'node'));
  });

  it('is none where there is none that could do it', async () => {
    onBun();
    const message = /on bun 1\.4\.5: put a node \(.*\) on the PATH \(there is none\)$/;
    await expect(pathOf(folder('other', {}))).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(message) as string,
    });
    await expect(nodeProgram({})).rejects.toThrow(message);
    await expect(pathOf(folder('old', { node: '18.20.0' }))).rejects.toThrow(
      /\(\/.*\/old\/node is 18\.20\.0\)$/,
    );
  });
});
