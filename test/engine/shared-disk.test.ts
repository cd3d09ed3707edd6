/** Which disks other machines may use, so that locks prove nothing. */

import { promises as fs, statfsSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { refuseSharedDisk, sharedDiskName } from '../../src/engine/shared-disk.ts';

it.each([
  [0x6969, 'NFS'],
  [0xff534d42, 'CIFS'],
  [0xff534d42 | 0, 'CIFS'],
  [0x65735546, 'FUSE or virtiofs'],
  [0x01021997, '9p'],
  [0xef53, undefined],
  [0x01021994, undefined],
  [0x58465342, undefined],
  [0x9123683e, undefined],
  [0x794c7630, undefined],
])('%i is %s', (type, name) => {
  expect(sharedDiskName(type)).toBe(name);
});

it.runIf(sharedDiskName(statfsSync(tmpdir()).type) === undefined)(
  'a disk of this machine is not refused',
  async () => {
    const dir = await fs.mkdtemp(join(tmpdir(), 'shared-disk-'));
    try {
      await refuseSharedDisk(dir);
      await expect(refuseSharedDisk(join(dir, 'none'))).rejects.toMatchObject({ code: 'not-found' });
    } finally {
      await fs.rm(dir, { recursive: true });
    }
  },
);

it.runIf(process.platform === 'linux')('one of several machines is refused as in use', async () => {
  const statfs = vi
    .spyOn(fs, 'statfs')
    .mockResolvedValue(Object.assign(statfsSync(tmpdir()), { type: 0x6969 }));
  syncBuiltinESMExports();
  try {
    await expect(refuseSharedDisk('/data/db')).rejects.toMatchObject({
      code: 'busy',
      message: expect.stringMatching(/NFS.*-no-other-users/) as string,
    });
    expect(statfs).toHaveBeenCalledWith('/data/db');
  } finally {
    statfs.mockRestore();
    syncBuiltinESMExports();
  }
});
