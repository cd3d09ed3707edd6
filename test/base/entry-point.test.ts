/** Where the files of programs and threads are looked for: beside what runs. */

import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import * as source from '../../src/base/entry-point.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

let dir: string;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'entry-point-')));
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
});
afterEach(() => rmSync(dir, { recursive: true }));

/** The compiled module at a place of its own. */
async function placedAt(path: string): Promise<typeof source> {
  for (const [from, to] of [
    ['entry-point.js', path],
    ['errors.js', join(dirname(path), 'errors.js')],
    ['held-names.js', join(dirname(path), 'held-names.js')],
  ] as const) {
    mkdirSync(dirname(join(dir, to)), { recursive: true });
    // Without the name of a map, which would be looked for here.
    const text = readFileSync(join(ROOT, 'dist/base', from), 'utf8').replace(
      /^\/\/# sourceMappingURL=.*$/m,
      '',
    );
    writeFileSync(join(dir, to), text);
  }
  return (await import(pathToFileURL(join(dir, path)).href)) as typeof source;
}

function put(path: string): string {
  const file = join(dir, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, '');
  return pathToFileURL(file).href;
}

describe('an entry point', () => {
  it('of sources is what was built of them', () => {
    expect(source.entryPoint('engine/checkpoint-worker').href).toBe(
      pathToFileURL(join(ROOT, 'dist/engine/checkpoint-worker.js')).href,
    );
  });

  it('of the library is in its layer', async () => {
    const { entryPoint } = await placedAt('dist/base/entry-point.js');
    const expected = put('dist/sqlite/integrity-program.js');
    expect(entryPoint('sqlite/integrity-program').href).toBe(expected);
  });

  it('of the bundle is beside it, whatever chunk asks', async () => {
    const { entryPoint } = await placedAt('dist/cli/chunk-ABCDEFGH.js');
    const expected = put('dist/cli/integrity-program.js');
    expect(entryPoint('sqlite/integrity-program').href).toBe(expected);
  });

  it("in a zip file of Yarn's is told with the remedy", async () => {
    const { entryPoint, commandFile } = await placedAt('cache/litestream-ts.zip/dist/cli/chunk-ABCDEFGH.js');
    put('cache/litestream-ts.zip/dist/cli/integrity-program.js');
    put('cache/litestream-ts.zip/dist/cli/main.js');
    const command = put('cache/litestream-ts.zip/bin/litestream');
    expect(commandFile().href).toBe(command);
    Object.defineProperty(process.versions, 'pnp', { value: '3', configurable: true });
    try {
      expect(() => entryPoint('sqlite/integrity-program')).toThrow(/ is in a zip file: set nodeLinker/);
      expect(() => commandFile()).toThrow(/ is in a zip file: set nodeLinker/);
    } finally {
      Reflect.deleteProperty(process.versions, 'pnp');
    }
  });

  it('the command must be ours: with the bundle beside it', async () => {
    const { commandFile } = await placedAt('src/app/server.js');
    put('bin/litestream');
    expect(() => commandFile()).toThrow(/^\/.*\/dist\/cli\/main\.js is missing: .*leave litestream-ts out/);
  });

  it('that an application has bundled away is told with the remedy', async () => {
    const { entryPoint } = await placedAt('app/server.js');
    expect(() => entryPoint('engine/checkpoint-worker')).toThrow(
      /^\/.*\/app\/checkpoint-worker\.js is missing: .*leave litestream-ts out/,
    );
  });
});
