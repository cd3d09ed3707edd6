import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  WAL_HEADER_SIZE,
  encodeFrame,
  encodeWalHeader,
  parseWalHeader,
  verifyFrames,
  walChecksum,
  walFrameCount,
  walFrameSize,
  walOffsetOfFrame,
  type WalChecksum,
} from '../../src/sqlite/wal.ts';

const headers = fc.record({
  bigEndianChecksum: fc.boolean(),
  pageSizeBytes: fc.constantFrom(512, 1024, 4096, 65536),
  sequence: fc.nat(),
  salt1: fc.nat(),
  salt2: fc.nat(),
});

/** A WAL of frames with random pages; which of them commit is given. */
function encodeWal(header: Parameters<typeof encodeWalHeader>[0], commits: readonly boolean[]) {
  const headerBytes = encodeWalHeader(header);
  const parsed = parseWalHeader(headerBytes);
  let checksum: WalChecksum = parsed.checksum;
  const frames = commits.map((commit, i) => {
    const page = new Uint8Array(header.pageSizeBytes).fill(i + 1);
    const frame = encodeFrame(
      parsed,
      { pageNumber: i + 1, commitPageCount: commit ? i + 1 : 0 },
      page,
      checksum,
    );
    checksum = verifyFrames(parsed, frame, checksum).checksum;
    return frame;
  });
  return { parsed, data: new Uint8Array(Buffer.concat(frames)), checksum };
}

describe('wal', () => {
  it('parseWalHeader gives back what encodeWalHeader wrote', () => {
    fc.assert(
      fc.property(headers, (header) => {
        expect(parseWalHeader(encodeWalHeader(header))).toMatchObject(header);
      }),
    );
  });

  it('parseWalHeader refuses a header with any byte changed', () => {
    fc.assert(
      fc.property(
        headers,
        fc.nat(WAL_HEADER_SIZE - 1),
        fc.integer({ min: 1, max: 255 }),
        (header, at, flip) => {
          const data = encodeWalHeader(header);
          data[at]! ^= flip;
          expect(() => parseWalHeader(data)).toThrow(/wal header/);
        },
      ),
    );
  });

  it('verifyFrames accepts all frames and finds the last commit', () => {
    fc.assert(
      fc.property(headers, fc.array(fc.boolean(), { maxLength: 6 }), (header, commits) => {
        const { parsed, data, checksum } = encodeWal(header, commits);
        const run = verifyFrames(parsed, data, parsed.checksum);
        const lastCommit = commits.lastIndexOf(true) + 1;
        expect(run).toMatchObject({
          validBytes: data.byteLength,
          checksum,
          committedBytes: lastCommit * walFrameSize(header.pageSizeBytes),
          commitPageCount: lastCommit,
          commitCount: commits.filter(Boolean).length,
        });
      }),
      { numRuns: 50 },
    );
  });

  it('verifyFrames stops at the frame with a changed byte', () => {
    fc.assert(
      fc.property(headers, fc.nat(), fc.integer({ min: 1, max: 255 }), (header, place, flip) => {
        const { parsed, data } = encodeWal(header, [true, true, true]);
        const at = place % data.byteLength;
        data[at]! ^= flip;
        const size = walFrameSize(header.pageSizeBytes);
        expect(verifyFrames(parsed, data, parsed.checksum).validBytes).toBe(Math.floor(at / size) * size);
      }),
      { numRuns: 50 },
    );
  });

  it('walChecksum is the same for aligned and unaligned bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 64 }), fc.boolean(), (data, bigEndian) => {
        const length = data.length - (data.length % 8);
        const shifted = new Uint8Array(length + 1);
        shifted.set(data.subarray(0, length), 1);
        const aligned = new Uint8Array(data.subarray(0, length));
        expect(walChecksum(shifted, 1, length + 1, bigEndian, [1, 2])).toEqual(
          walChecksum(aligned, 0, length, bigEndian, [1, 2]),
        );
      }),
    );
  });

  it('walFrameCount and walOffsetOfFrame are inverse', () => {
    expect(walFrameCount(0, 4096)).toBe(0);
    for (const count of [0, 1, 7]) expect(walFrameCount(walOffsetOfFrame(count, 4096), 4096)).toBe(count);
    expect(() => walFrameCount(100, 4096)).toThrow(/not at the end of a frame/);
  });

  for (const pageSize of [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]) {
    it(`verifyFrames accepts a WAL that SQLite wrote with pages of ${pageSize}`, () => {
      const directory = mkdtempSync(join(tmpdir(), 'wal-'));
      const database = new BetterSqlite3(join(directory, 'db'));
      try {
        database.pragma(`page_size = ${pageSize}`);
        database.pragma('journal_mode = WAL');
        database.exec(
          'CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(100000)); INSERT INTO t VALUES (1)',
        );
        const data = new Uint8Array(readFileSync(join(directory, 'db-wal')));
        const header = parseWalHeader(data);
        expect(header.pageSizeBytes).toBe(pageSize);
        const run = verifyFrames(header, data.subarray(WAL_HEADER_SIZE), header.checksum);
        expect(run.validBytes).toBe(data.byteLength - WAL_HEADER_SIZE);
        expect(run.committedBytes).toBe(run.validBytes);
        expect(run.commitCount).toBe(3);
      } finally {
        database.close();
        rmSync(directory, { recursive: true });
      }
    });
  }
});
