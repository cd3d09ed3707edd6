/** What `doctor` says of SQLite itself. */

import { messageOf } from '../../base/errors.ts';
import { sqliteDriver } from '../../sqlite/driver.ts';
import type { Report } from './report.ts';

/** Reports which SQLite `replicate` would load here, or why it would load none. */
export function checkSqlite(report: Report): void {
  report.begin('sqlite');
  try {
    const { name, version } = sqliteDriver();
    report.ok('driver', `${name}, SQLite ${version}`);
  } catch (error) {
    report.failure('driver', messageOf(error));
  }
}
