/** Files of a project that may be there or not. */

import { promises as fs } from 'node:fs';
import { systemCode } from '../../base/errors.ts';

/** The text of `path`; empty when there is no such file. Rejects with the system's own errors. */
export async function readTextIfThere(path: string): Promise<string> {
  try {
    return await fs.readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(systemCode(error) ?? '')) return '';
    throw error;
  }
}
