import { execFileSync } from 'node:child_process';
import { promises as fs, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { type RestoreRequest, type RestoreResult, restore } from '../../src/engine/restore.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { openStore } from '../../src/storage/registry.ts';
import { oracle } from '../support/oracle.ts';

const G = '00000000000000aa';

let dir: string;
let lines: string[];

beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'restore-'));
  lines = [];
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

/** A database in WAL mode whose indexes go into a replica, each cut into segments at commits. */
class Source {
  readonly path = join(dir, 'db');
  readonly #database: BetterSqlite3.Database;
  #index = 0;

  constructor(...pragmas: string[]) {
    this.#database = new BetterSqlite3(this.path);
    for (const pragma of [...pragmas, 'journal_mode=wal', 'wal_autocheckpoint=0'])
      this.#database.pragma(pragma);
    this.#database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)');
    this.#database.pragma('wal_checkpoint(TRUNCATE)');
    this.snapshot();
  }

  snapshot(): void {
    write(snapshotKey(G, this.#index), encodeLz4FrameBytes(readFileSync(this.path)));
  }

  /** Runs transactions, each a segment of the current index, and begins the next index. */
  index(...transactions: string[]): void {
    let offset = 0;
    for (const sql of transactions) {
      this.#database.exec(sql);
      const wal = readFileSync(`${this.path}-wal`);
      write(segmentKey(G, this.#index, offset), encodeLz4FrameBytes(wal.subarray(offset)));
      offset = wal.byteLength;
    }
    this.#database.pragma('wal_checkpoint(TRUNCATE)');
    this.#index++;
  }

  close(): Buffer {
    this.#database.close();
    return readFileSync(this.path);
  }
}

function write(key: string, data: Uint8Array): void {
  const path = join(dir, 'replica', key);
  execFileSync('mkdir', ['-p', dirname(path)]);
  writeFileSync(path, data);
}

const insert = (count: number, sizeBytes = 700): string =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
   INSERT INTO t (b) SELECT randomblob(${sizeBytes}) FROM n`;

async function run(options: Partial<RestoreRequest> = {}): Promise<RestoreResult> {
  const store = await openStore({ type: 'file', path: join(dir, 'replica') });
  return restore({
    replicas: [{ name: 'file', store }],
    outputPath: join(dir, 'out', 'db'),
    parallelism: 4,
    logger: createLogger({ format: 'default', level: 'INFO', write: (line) => lines.push(line) }),
    ...options,
  });
}

const restored = (): Buffer => readFileSync(join(dir, 'out', 'db'));

/** What v0.3.13 restores from the same replica. */
function oracleRestore(...args: string[]): Buffer {
  const path = join(dir, 'oracle');
  execFileSync(oracle(), ['restore', '-o', path, ...args, `file://${join(dir, 'replica')}`], {
    stdio: 'pipe',
  });
  return readFileSync(path);
}

describe('against v0.3.13', () => {
  it.each([512, 1024, 4096, 16384, 65536])(
    'restores pages of %d bytes byte for byte',
    async (pageSizeBytes) => {
      const source = new Source(`page_size=${pageSizeBytes}`);
      source.index(insert(300), insert(10), 'DELETE FROM t WHERE id % 3 = 0');
      source.index(insert(5000, 100));
      source.index('UPDATE t SET b = randomblob(50) WHERE id % 7 = 0', insert(2));
      const expected = source.close();
      const { position, sizeBytes } = await run();
      expect(restored().equals(expected)).toBe(true);
      expect(restored().equals(oracleRestore())).toBe(true);
      expect([position.index, sizeBytes]).toEqual([2, expected.byteLength]);
      expect(readdirSync(join(dir, 'out'))).toEqual(['db']);
      expect(statSync(join(dir, 'out', 'db')).mode & 0o777).toBe(0o600);
    },
  );

  it.each(['auto_vacuum=none', 'auto_vacuum=full', 'auto_vacuum=incremental'])(
    'restores a database that shrinks and grows with %s',
    async (pragma) => {
      const source = new Source(pragma);
      for (let i = 0; i < 3; i++) {
        source.index(insert(3000), 'DELETE FROM t WHERE id % 2 = 0', 'PRAGMA incremental_vacuum(50)');
        source.index('DELETE FROM t WHERE id > 100', 'VACUUM');
        source.index(insert(500));
      }
      const expected = source.close();
      await run();
      expect(restored().equals(expected)).toBe(true);
      expect(restored().equals(oracleRestore())).toBe(true);
    },
  );

  it('restores each index, from whichever snapshot is nearest', async () => {
    const source = new Source();
    for (let i = 0; i < 6; i++) {
      source.index(insert(50), insert(50));
      if (i === 2) source.snapshot();
    }
    source.close();
    for (let index = 0; index < 6; index++) {
      const outputPath = join(dir, `out-${index}`);
      const { snapshotIndex } = await run({ index, outputPath });
      expect(snapshotIndex).toBe(index >= 3 ? 3 : 0);
      expect(readFileSync(outputPath).equals(oracleRestore('-index', index.toString(16)))).toBe(true);
      await fs.rm(join(dir, 'oracle'));
    }
  });

  it('restores a transaction that is larger than what is held back', async () => {
    const source = new Source();
    source.index(insert(60_000), insert(1));
    const expected = source.close();
    await run();
    expect(restored().equals(expected)).toBe(true);
  });
});

describe('damage', () => {
  /** Three indexes of two segments each. */
  function small(): Source {
    const source = new Source('page_size=512');
    for (let i = 0; i < 3; i++) source.index(insert(3), insert(3));
    source.close();
    return source;
  }

  const segments = (): string[] => readdirSync(join(dir, 'replica/generations', G, 'wal')).sort();
  const segmentPath = (name: string): string => join(dir, 'replica/generations', G, 'wal', name);

  it('names a segment that is missing inside an index, and the last consistent point', async () => {
    const source = new Source('page_size=512');
    source.index(insert(1), insert(1), insert(1));
    source.close();
    const second = segments()[1]!;
    const offset = parseInt(second.slice(9, 17), 16);
    await fs.rm(segmentPath(second));
    await expect(run()).rejects.toMatchObject({
      code: 'gap',
      message: `missing WAL segment generations/${G}/wal/${second}: the last consistent point before it is ${G}/00000000:${offset}; -best-effort restores what is before ${G}/00000000:${offset}`,
    });
    expect(existsSync(join(dir, 'out'))).toBe(false);
  });

  it('accepts an index that is a WAL header only', async () => {
    small();
    const wal = decodeLz4FrameBytes(readFileSync(segmentPath(segments()[0]!)));
    write(segmentKey(G, 3, 0), encodeLz4FrameBytes(wal.subarray(0, 32)));
    const { position } = await run();
    expect(position).toEqual({ generation: G, index: 3, offset: 32 });
    expect(restored().equals(readFileSync(join(dir, 'db')))).toBe(true);
  });

  it('never gives a wrong database for changed WAL bytes', async () => {
    small();
    const expected = readFileSync(join(dir, 'db'));
    const name = segments()[2]!;
    const content = decodeLz4FrameBytes(readFileSync(segmentPath(name)));
    // Every byte of the header and of the first frame's header, then some of the pages.
    for (let at = 0; at < content.byteLength; at += at < 60 ? 1 : 211) {
      const damaged = Buffer.from(content);
      damaged[at]! ^= 1 << (at % 8);
      writeFileSync(segmentPath(name), encodeLz4FrameBytes(damaged));
      const outcome = await run().catch((error: unknown) => error);
      expect(outcome, `byte ${at}`).toMatchObject({ code: 'corrupt' });
      expect((outcome as Error).message).toContain(name);
      expect(existsSync(join(dir, 'out'))).toBe(false);
    }
    writeFileSync(segmentPath(name), encodeLz4FrameBytes(content));
    await run();
    expect(restored().equals(expected)).toBe(true);
  });

  it('refuses a snapshot that is no database, and one that is damaged', async () => {
    small();
    const path = join(dir, 'replica', snapshotKey(G, 0));
    const frame = readFileSync(path);
    for (const bad of [encodeLz4FrameBytes(Buffer.alloc(4096)), frame.subarray(0, -1), Buffer.alloc(0)]) {
      writeFileSync(path, bad);
      await expect(run()).rejects.toMatchObject({ code: 'corrupt' });
    }
    expect(existsSync(join(dir, 'out'))).toBe(false);
  });
});

describe('the output', () => {
  beforeEach(() => {
    const source = new Source();
    source.index(insert(10));
    source.close();
  });

  const out = (suffix: string): string => join(dir, 'out', `db${suffix}`);

  it('is not overwritten', async () => {
    await fs.mkdir(join(dir, 'out'));
    writeFileSync(out(''), 'mine');
    await expect(run()).rejects.toMatchObject({
      code: 'exists',
      message: `cannot restore, output path already exists: ${out('')}: -force replaces it, -o PATH restores to another file`,
    });
    expect(restored().toString()).toBe('mine');
  });

  it.each(['-wal', '-journal'])(
    'is refused beside a left-over %s, which force sets aside',
    async (suffix) => {
      await fs.mkdir(join(dir, 'out'));
      writeFileSync(out(suffix), 'old');
      const error: unknown = await run().catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'exists' });
      expect((error as Error).message).toContain(`mv ${out(suffix)} ${out(suffix)}.old`);
      expect(readdirSync(join(dir, 'out'))).toEqual([`db${suffix}`]);
      await run({ force: true });
      const names = readdirSync(join(dir, 'out')).sort();
      expect(names).toEqual(['db', expect.stringMatching(new RegExp(`^db${suffix}\\.\\d{8}T\\d{9}Z$`))]);
      expect(readFileSync(join(dir, 'out', names[1]!), 'utf8')).toBe('old');
    },
  );

  it('is looked at again just before the rename', async () => {
    const onProgress = (): void => writeFileSync(out('-wal'), 'new');
    await expect(run({ onProgress })).rejects.toMatchObject({ code: 'exists' });
    expect(readdirSync(join(dir, 'out'))).toEqual(['db-wal']);
  });

  it('leaves nothing behind when aborted', async () => {
    const controller = new AbortController();
    const onProgress = (): void => controller.abort();
    await expect(run({ signal: controller.signal, onProgress })).rejects.toMatchObject({ code: 'aborted' });
    expect(existsSync(join(dir, 'out'))).toBe(false);
  });

  it('leaves files alone that are not its own', async () => {
    await fs.mkdir(join(dir, 'out'));
    const digits = '0123456789abcdef';
    const others = ['.tmp', '.tmp-wal', '.tmp-shm', '.tmp-journal', '.restore-.tmp', `.restore-${digits}.db`];
    for (const suffix of others) writeFileSync(out(suffix), suffix);
    await fs.symlink(out('.tmp'), out(`.restore-${digits}.tmp`));
    const steps: string[][] = [];
    await run({ integrityCheck: 'full', onProgress: () => steps.push(readdirSync(join(dir, 'out'))) });
    expect(steps[0]).toContainEqual(expect.stringMatching(/^db\.restore-(?!0123)[0-9a-f]{16}\.tmp$/));
    expect(readdirSync(join(dir, 'out')).sort()).toEqual(
      ['', ...others, `.restore-${digits}.tmp`].map((suffix) => `db${suffix}`).sort(),
    );
    for (const suffix of others) expect(readFileSync(out(suffix), 'utf8')).toBe(suffix);
  });

  it.runIf(process.platform === 'linux')(
    'removes what a killed restore left, but not what a running one writes',
    async () => {
      await fs.mkdir(join(dir, 'out'));
      const left = '.restore-00000000000000aa.tmp';
      for (const suffix of ['', '-wal', '-shm', '-journal']) writeFileSync(out(left + suffix), 'left');
      const running = await fs.open(out('.restore-00000000000000bb.tmp'), 'wx');
      try {
        await run();
      } finally {
        await running.close();
      }
      expect(readdirSync(join(dir, 'out')).sort()).toEqual(['db', 'db.restore-00000000000000bb.tmp']);
      expect(lines).toContainEqual(
        expect.stringMatching(/INFO removing what a killed restore left .*path=\S+00aa\.tmp/),
      );
    },
  );

  it('of two at once one has the name, and nothing of the other stays', async () => {
    const results = await Promise.allSettled([run(), run()]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const failed = results.find(({ status }) => status === 'rejected');
    expect(failed).toMatchObject({ reason: { code: 'exists' } });
    expect(readdirSync(join(dir, 'out'))).toEqual(['db']);
    expect(restored().equals(readFileSync(join(dir, 'db')))).toBe(true);
  });

  it('comes with the log lines of v0.3.13 and with progress', async () => {
    const steps: string[] = [];
    await run({
      onProgress: (p) => steps.push(`${p.segmentsDone}/${p.segmentsTotal} ${p.bytesDone === p.bytesTotal}`),
    });
    expect(steps.at(-1)).toBe('1/1 true');
    expect(lines.map((line) => / INFO (.*?) replica=/.exec(line)?.[1])).toEqual([
      'restoring snapshot',
      'restoring wal files',
      'downloaded wal',
      'applied wal',
      'renaming database from temporary location',
    ]);
  });
});
