/**
 * SQLite's check of a database file as a program: PATH, and `integrity_check` or `quick_check`. Prints the problems as a
 * JSON array, or ends with an error.
 */

import { messageOf } from '../base/errors.ts';
import { sqliteDriver } from './driver.ts';

const [, , path = '', pragma = ''] = process.argv;
process.stdout.write(JSON.stringify(findProblems()));

function findProblems(): string[] {
  const driver = sqliteDriver();
  try {
    const rows = driver.open(path, 'read-only').all(`PRAGMA ${pragma}`);
    // One column, named after the pragma.
    return rows.flatMap((row) => Object.values(row).map(String)).filter((problem) => problem !== 'ok');
  } catch (error) {
    if (/^SQLITE_(CORRUPT|NOTADB)/.test(driver.codeOf(error))) return [messageOf(error)];
    throw error;
  }
}
