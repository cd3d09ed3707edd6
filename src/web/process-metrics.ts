/** Metrics of this process under the names that Prometheus clients share. */

import { promises as fs } from 'node:fs';
import { Counter, Gauge } from 'prom-client';
import type { Registry } from 'prom-client';
import { systemCode } from '../base/errors.ts';

const PAGE_SIZE_BYTES = 4096;

/** Adds `process_*` to `registry`, read when they are asked for: nothing runs in between. */
export function registerProcessMetrics(registry: Registry): void {
  const registers = [registry];
  const startedAt = Date.now() / 1000 - process.uptime();
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'CPU time of the process, user and system, in seconds.',
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  const gauge = (name: string, help: string, read: () => number | Promise<number | undefined>): void => {
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        const value = await read();
        if (value !== undefined) this.set(value);
      },
    });
  };
  gauge('process_start_time_seconds', 'When the process started, in seconds since 1970.', () => startedAt);
  gauge('process_resident_memory_bytes', 'Memory of the process in RAM, in bytes.', () =>
    process.memoryUsage.rss(),
  );
  if (process.platform !== 'linux') return;
  gauge('process_virtual_memory_bytes', 'Address space of the process, in bytes.', virtualMemoryBytes);
  gauge(
    'process_open_fds',
    'Open file descriptors of the process.',
    async () => (await fs.readdir('/proc/self/fd')).length,
  );
  gauge('process_max_fds', 'How many file descriptors the process may open.', maxDescriptors);
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
