/**
 * What `doctor` says of a database. It looks at files only and opens no SQLite connection: that could make a `-wal` and
 * a `-shm`, and its locks would be lost with the next close of the file.
 */

import { constants, promises as fs } from 'node:fs';
import { dirname } from 'node:path';
import { formatBytes } from '../../base/byte-size.ts';
import { hasCode, messageOf, systemCode } from '../../base/errors.ts';
import type { DatabaseOptions } from '../../engine/options.ts';
import { findOtherName } from '../../engine/other-names.ts';
import {
  DATABASE_HEADER_SIZE,
  parseDatabaseHeader,
  type DatabaseHeader,
} from '../../sqlite/database-header.ts';
import { findWritable } from '../../sqlite/writable-path.ts';
import type { Report } from './report.ts';

/** SQLite before these can corrupt a database that two processes checkpoint: https://www.sqlite.org/wal.html#walresetbug */
const WAL_RESET_FIXED = 3_051_003;
const WAL_RESET_BACKPORTS = [
  { from: 3_044_006, below: 3_045_000 },
  { from: 3_050_007, below: 3_051_000 },
];

/** Sizes in bytes of what is there. */
export interface DatabaseFacts {
  readonly sizeBytes: number;
  readonly walSizeBytes: number;
  readonly pageSizeBytes: number;
}

/** Reports on the database file and what stands beside it; undefined when it cannot be used, or is not there. */
export async function checkDatabase(
  { path }: Pick<DatabaseOptions, 'path'>,
  report: Report,
): Promise<DatabaseFacts | undefined> {
  const realPath = await findFile(path, report);
  if (realPath === undefined) return undefined;
  const read = await readStart(realPath, report);
  if (read === undefined) return undefined;
  const { header, sizeBytes } = read;
  report.ok('readable', `${formatBytes(sizeBytes)}, pages of ${header.pageSizeBytes} bytes`);
  checkFormat(header, report);
  await checkWritable(realPath, header, report);
  checkNames(realPath, report);
  await checkGroup(realPath, report);
  const walSizeBytes = await checkWal(realPath, header, report);
  return { sizeBytes, walSizeBytes, pageSizeBytes: header.pageSizeBytes };
}

async function findFile(path: string, report: Report): Promise<string | undefined> {
  try {
    const realPath = await fs.realpath(path);
    const stats = await fs.stat(realPath);
    if (stats.isFile()) return realPath;
    report.failure('exists', `${path} is not a file`, 'set path to the database file');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') {
      report.failure('exists', messageOf(error), 'check path and the permissions of the folders above it');
    } else if (await isThere(dirname(path))) {
      report.warning(
        'exists',
        `${path} is not there (yet)`,
        'check path if the application has made it already; replicate waits for it',
      );
    } else {
      report.failure('exists', `the folder ${dirname(path)} is not there`, 'check path');
    }
  }
  return undefined;
}

interface Start {
  readonly header: DatabaseHeader;
  readonly sizeBytes: number;
}

/** Opens and closes the file: this process has no SQLite connection to it. */
async function readStart(path: string, report: Report): Promise<Start | undefined> {
  try {
    const file = await fs.open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size === 0) {
        report.warning(
          'readable',
          'the file is empty',
          'replicate waits until the application has made a table',
        );
        return undefined;
      }
      const { buffer, bytesRead } = await file.read(
        Buffer.alloc(DATABASE_HEADER_SIZE),
        0,
        DATABASE_HEADER_SIZE,
        0,
      );
      return { header: parseDatabaseHeader(buffer.subarray(0, bytesRead)), sizeBytes: size };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (hasCode(error, 'corrupt')) {
      report.failure('readable', messageOf(error), 'check path; an encrypted database cannot be replicated');
    } else {
      report.failure('readable', messageOf(error), `let user ${userId()} read and write the file`);
    }
    return undefined;
  }
}

function checkFormat(header: DatabaseHeader, report: Report): void {
  if (header.walMode) {
    report.ok('journal mode', 'WAL');
  } else {
    report.warning(
      'journal mode',
      'a rollback journal',
      'replicate switches it to WAL; better the application does (PRAGMA journal_mode = WAL)',
    );
  }
  const { writerVersion } = header;
  const fixed =
    writerVersion >= WAL_RESET_FIXED ||
    WAL_RESET_BACKPORTS.some(({ from, below }) => writerVersion >= from && writerVersion < below);
  const shown = `written last by SQLite ${formatVersion(writerVersion)}`;
  if (fixed) report.ok('sqlite', shown);
  else {
    report.warning(
      'sqlite',
      `${shown}, which can corrupt a database that two processes checkpoint`,
      'give the application SQLite 3.51.3 or later',
    );
  }
  if (header.reservedBytes > 0) {
    report.warning(
      'format',
      `${header.reservedBytes} bytes of each page are reserved, as by an extension`,
      'try a restore: the application needs the same extension to read it',
    );
  }
}

/** `3045001` to `3.45.1`. */
function formatVersion(version: number): string {
  if (version === 0) return 'before 3.7.0';
  return [Math.floor(version / 1e6), Math.floor(version / 1e3) % 1e3, version % 1e3].join('.');
}

/** What cannot be written makes replicate follow the database without checkpoints, by locks that its application shares. */
async function checkWritable(path: string, header: DatabaseHeader, report: Report): Promise<void> {
  if (findWritable(path) !== undefined) {
    report.ok('writable', 'the database, its -wal and its -shm');
    return;
  }
  if (!header.walMode) {
    report.failure(
      'writable',
      `user ${userId()} can only read ${path} or its folder, so replicate cannot switch it to WAL`,
      'have the application run PRAGMA journal_mode = WAL once',
    );
    return;
  }
  const unreadable: string[] = [];
  for (const beside of [`${path}-wal`, `${path}-shm`]) {
    if ((await isThere(beside)) && !(await can(beside, constants.R_OK))) unreadable.push(beside);
  }
  if (unreadable.length > 0) {
    report.failure(
      'writable',
      `cannot even read ${unreadable.join(', ')}`,
      `let user ${userId()} read there`,
    );
    return;
  }
  const inUse = await isThere(`${path}-shm`);
  report.ok(
    'writable',
    `it can only be read: replicate follows it while an application has it open${inUse ? '' : ' (none has now)'}, ` +
      'and leaves checkpoints to that application',
  );
}

function checkNames(path: string, report: Report): void {
  const other = findOtherName(path);
  if (other === undefined) return;
  const [what = '', remedy = ''] = other.split(': ');
  report.failure('one name', `${what}, so an application that uses the other name has another -wal`, remedy);
}

/** Who makes `-wal` and `-shm` first gives them his group, unless the folder hands on its own. */
async function checkGroup(path: string, report: Report): Promise<void> {
  const SETGID = 0o2000;
  const [file, folder] = await Promise.all([fs.stat(path), fs.stat(dirname(path))]);
  const shared =
    process.geteuid?.() === 0 || file.uid === process.geteuid?.() || file.gid === process.getegid?.();
  if (shared || (folder.mode & SETGID) !== 0 || (await isThere(`${path}-shm`))) return;
  report.warning(
    'group',
    `the database is of group ${file.gid}, this process of group ${process.getegid?.() ?? ''}: -wal and -shm get the group of whoever makes them`,
    `chmod g+s ${dirname(path)}`,
  );
}

async function checkWal(path: string, header: DatabaseHeader, report: Report): Promise<number> {
  const walSizeBytes = await sizeOf(`${path}-wal`);
  if (header.walMode && walSizeBytes > 0 && !(await isThere(`${path}-shm`))) {
    report.warning(
      'wal-index',
      'there is a -wal but no -shm, as with PRAGMA locking_mode = EXCLUSIVE',
      'take that out of the application, or no other process can read the database',
    );
  }
  return walSizeBytes;
}

/** Whether the meta directory can be made or written. Makes nothing. */
export async function checkMetaDirectory(metaPath: string, report: Report): Promise<void> {
  const existing = await nearestExisting(metaPath);
  const stats = await fs.stat(existing);
  if (!stats.isDirectory()) {
    report.failure('meta directory', `${existing} is not a folder`, 'move it away, or set meta-path');
  } else if (await isWritable(existing)) {
    report.ok('meta directory', existing === metaPath ? metaPath : `${metaPath} can be made`);
  } else {
    report.failure(
      'meta directory',
      `cannot write in ${existing}`,
      `let user ${userId()} write there, or set meta-path to a folder where it may`,
    );
  }
}

/** `path`, or the nearest folder above it that is there. */
export async function nearestExisting(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) if ((await isThere(at)) || at === dirname(at)) return at;
}

async function isThere(path: string): Promise<boolean> {
  return can(path, constants.F_OK);
}

async function isWritable(path: string): Promise<boolean> {
  return can(path, constants.W_OK);
}

async function can(path: string, mode: number): Promise<boolean> {
  try {
    await fs.access(path, mode);
    return true;
  } catch {
    return false; // What it is that forbids it does not matter here.
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await fs.stat(path)).size;
  } catch {
    return 0; // Not there, or not for us to see: the other checks say so.
  }
}

function userId(): string {
  return String(process.geteuid?.() ?? '');
}
