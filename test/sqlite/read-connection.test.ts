/** A read transaction that cannot begin. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, expect, it } from 'vitest';

/** The compiled files: a process cannot be started from TypeScript. */
const MODULE = new URL('../../dist/sqlite/connection.js', import.meta.url).href;
const DRIVER = new URL('../../dist/sqlite/driver.js', import.meta.url).href;

/** Begins, in a process that may not let a file grow: SQLite cannot make the wal-index, and ends the transaction itself. */
const LIMITED = `trap '' XFSZ; ulimit -f 0; exec "$0" "$@"`;
const PROGRAM = `
  Promise.all([import('${MODULE}'), import('${DRIVER}')]).then(([{ ReadConnection }, { sqliteDriver }]) => {
    const connection = new ReadConnection(process.argv[1]);
    try {
      connection.begin();
    } catch ({ code, message, cause }) {
      console.log(JSON.stringify({ code, message, cause: sqliteDriver().codeOf(cause), reading: connection.reading }));
    }
    connection.close();
  });
`;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'read-connection-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

it('tells why when SQLite has ended the transaction already', () => {
  const path = join(directory, 'db');
  const application = new BetterSqlite3(path);
  application.pragma('journal_mode = WAL');
  application.exec('CREATE TABLE t (v)');
  application.close();
  const { stdout, stderr } = spawnSync('sh', ['-c', LIMITED, process.execPath, '-e', PROGRAM, path], {
    encoding: 'utf8',
  });
  expect(stdout, stderr).not.toBe('');
  expect(JSON.parse(stdout)).toEqual({
    code: 'io',
    message: 'begin read transaction: disk I/O error',
    cause: expect.stringMatching(/^SQLITE_IOERR/) as string,
    reading: false,
  });
});
