import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { PageWriter } from '../../src/engine/page-writer.ts';

const PAGE = 512;
let dir: string;
let file: fs.FileHandle;

beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'page-writer-'));
  file = await fs.open(join(dir, 'db'), 'wx+');
  await file.writeFile(Buffer.concat([1, 2, 3, 4].map((value) => Buffer.alloc(PAGE, value))));
});
afterEach(async () => {
  await file.close();
  await fs.rm(dir, { recursive: true, force: true });
});

/** The first byte of each page of the file. */
async function pages(): Promise<number[]> {
  const data = await fs.readFile(join(dir, 'db'));
  return Array.from({ length: data.byteLength / PAGE }, (_, i) => data[i * PAGE]!);
}

it('keeps the last image of a page', async () => {
  const writer = new PageWriter(file, { sizeBytes: 4 * PAGE, pageSizeBytes: PAGE });
  for (const value of [7, 8, 9]) writer.put(2, Buffer.alloc(PAGE + 3, value), 3);
  writer.put(6, Buffer.alloc(PAGE, 6), 0);
  writer.cut(6);
  await writer.finish();
  expect(await pages()).toEqual([1, 9, 3, 4, 0, 6]);
});

it('refuses a size that neither the pages nor the database have', async () => {
  const head = Buffer.alloc(PAGE);
  head.write('SQLite format 3\0');
  head.writeUInt16BE(PAGE, 16);
  head.writeUInt32BE(7, 28);
  const sized = async (pageCount: number): Promise<void> => {
    const writer = new PageWriter(file, { sizeBytes: 4 * PAGE, pageSizeBytes: PAGE });
    writer.put(1, head, 0);
    writer.cut(pageCount);
    await writer.finish();
  };
  await expect(sized(0xffffffff)).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringMatching(/4294967295 pages, and the database that it has 7/) as string,
  });
  expect(await pages()).toHaveLength(4);
  await sized(7);
  expect(await pages()).toHaveLength(7);
});

it('forgets pages that were cut off, gathered or in the file, when the database grows again', async () => {
  const writer = new PageWriter(file, { sizeBytes: 4 * PAGE, pageSizeBytes: PAGE });
  writer.put(5, Buffer.alloc(PAGE, 5), 0);
  writer.cut(3);
  writer.put(6, Buffer.alloc(PAGE, 6), 0);
  writer.cut(7);
  await writer.finish();
  expect(await pages()).toEqual([1, 2, 3, 0, 0, 6, 0]);
  expect(writer.fileSizeBytes).toBe(7 * PAGE);
});
