/** Metrics of this process under the names that Prometheus clients share. */

import { promises as fs } from 'node:fs';
import { systemCode } from '../base/errors.ts';
import type { Metric } from './exposition.ts';

const PAGE_SIZE_BYTES = 4096;

/** `process_*`, read when they are asked for: nothing runs in between. What the system does not tell has no sample. */
export function processMetrics(): Metric[] {
  const startedAt = Date.now() / 1000 - process.uptime();
  const metric = (
    name: string,
    help: string,
    read: () => number | Promise<number | undefined>,
    type: Metric['type'] = 'gauge',
  ): Metric => ({
    name: `process_${name}`,
    help,
    type,
    async read() {
      const value = await read();
      return value === undefined ? [] : [[{}, value]];
    },
  });
  const everywhere = [
    metric(
      'cpu_seconds_total',
      'CPU time of the process, user and system, in seconds.',
      cpuSeconds,
      'counter',
    ),
    metric('start_time_seconds', 'When the process started, in seconds since 1970.', () => startedAt),
    metric('resident_memory_bytes', 'Memory of the process in RAM, in bytes.', () =>
      process.memoryUsage.rss(),
    ),
  ];
  if (process.platform !== 'linux') return everywhere;
  return [
    ...everywhere,
    metric('virtual_memory_bytes', 'Address space of the process, in bytes.', virtualMemoryBytes),
    metric(
      'open_fds',
      'Open file descriptors of the process.',
      async () => (await fs.readdir('/proc/self/fd')).length,
    ),
    metric('max_fds', 'How many file descriptors the process may open.', maxDescriptors),
  ];
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

async function virtualMemoryBytes(): Promise<number | undefined> {
  const pages = (await readProc('statm'))?.split(' ')[0];
  return pages === undefined ? undefined : Number(pages) * PAGE_SIZE_BYTES;
}

async function maxDescriptors(): Promise<number | undefined> {
  const limit = /^Max open files +(\d+)/m.exec((await readProc('limits')) ?? '')?.[1];
  return limit === undefined ? undefined : Number(limit);
}

async function readProc(name: string): Promise<string | undefined> {
  try {
    return await fs.readFile(`/proc/self/${name}`, 'utf8');
  } catch (error) {
    // Hidden in some containers.
    if (systemCode(error) !== undefined) return undefined;
    throw error;
  }
}
