/** Which boot of which machine this is: what was written since then cannot have been lost by a power loss. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const SYSCTL_TIMEOUT_MS = 5000;

let known: string | null | undefined;

/** Differs between machines and changes with every boot, whatever the clock says; null where there is none. */
export function readBootId(): string | null {
  known ??= find();
  return known;
}

function find(): string | null {
  try {
    if (process.platform === 'linux') return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    if (process.platform !== 'darwin') return null;
    const args = ['-n', 'kern.bootsessionuuid'];
    const id = execFileSync('/usr/sbin/sysctl', args, {
      encoding: 'utf8',
      timeout: SYSCTL_TIMEOUT_MS,
    }).trim();
    return id === '' ? null : id;
  } catch {
    return null; // Hidden, as in some sandboxes.
  }
}
