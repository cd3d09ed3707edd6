/**
 * File systems that several machines use at once, or that a machine shows to its virtual ones: there SQLite's locks may
 * hold on one of them alone, so that they prove nothing.
 */

import { statfs } from 'node:fs/promises';
import { LitestreamError, wrapError } from '../base/errors.ts';

/** By the numbers of statfs(2) on Linux. */
const SHARED: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff53_4d42, 'CIFS'],
  [0xfe53_4d42, 'SMB2'],
  [0x0102_1997, '9p'],
  [0x6573_5546, 'FUSE or virtiofs'],
  [0x00c3_6400, 'Ceph'],
  [0x5346_414f, 'AFS'],
  [0x6b41_4653, 'AFS'],
  [0x0bd0_0bd0, 'Lustre'],
  [0x4750_4653, 'GPFS'],
  [0x1983_0326, 'BeeGFS'],
  [0x786f_4256, 'vboxsf'],
  [0xbacb_acbc, 'VMware shared folders'],
  [0x7461_636f, 'OCFS2'],
  [0x0116_1970, 'GFS2'],
]);

/** The name of the file system when others may use it without our seeing their locks, given its statfs(2) type. */
export function sharedDiskName(type: number): string | undefined {
  return SHARED.get(type >>> 0);
}

/** @throws LitestreamError 'busy' when the database is on such a file system */
export async function refuseSharedDisk(path: string): Promise<void> {
  if (process.platform !== 'linux') return;
  let name: string | undefined;
  try {
    name = sharedDiskName((await statfs(path)).type);
  } catch (error) {
    throw wrapError(error, `look at the file system of ${path}`);
  }
  if (name === undefined) return;
  throw new LitestreamError(
    'busy',
    `cannot tell whether ${path} is in use: it is on ${name}, where locks of other machines may not be seen; ` +
      'stop everything that uses it, then say so with -no-other-users',
  );
}
