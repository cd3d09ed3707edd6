/**
 * Whether the wall clock was set between two runs, told from `clock.json` in the meta directory: when the machine was
 * booted, as the wall clock had it then. It is only ever a help: without it the clock is believed.
 */

import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { writeFileDurably } from '../base/durable-file.ts';
import { CLOCK_STEP_MS } from './steady-clock.ts';

const CLOCK_FILE = 'clock.json';
const VERSION = 1;

interface ClockRecord {
  readonly version: number;
  /** Changes with every boot. */
  readonly boot: string;
  /** When the machine was booted: epoch milliseconds. */
  readonly bootedAtMs: number;
  /** The same, but that it does not count the time for which the machine was asleep. */
  readonly awakeAtMs: number;
}

/** By how many milliseconds the wall clock was set since noteClock(); negative: back. Undefined: by little, or not known. */
export async function clockStepSince(metaPath: string): Promise<number | undefined> {
  const present = presentClock();
  if (!present) return undefined;
  try {
    const { version, boot, bootedAtMs, awakeAtMs } = JSON.parse(
      await readFile(join(metaPath, CLOCK_FILE), 'utf8'),
    ) as ClockRecord;
    if (version !== VERSION || boot !== present.boot) return undefined;
    // A sleep changes one of them, a container whose uptime is its own the other one.
    const [step, otherMs] = [present.bootedAtMs - bootedAtMs, present.awakeAtMs - awakeAtMs];
    const sameWay = Math.sign(step) === Math.sign(otherMs);
    return sameWay && Math.min(Math.abs(step), Math.abs(otherMs)) > CLOCK_STEP_MS ? step : undefined;
  } catch {
    return undefined;
  }
}

/** Remembers the wall clock as it is. Never rejects. */
export async function noteClock(metaPath: string): Promise<void> {
  const present = presentClock();
  if (!present) return;
  try {
    await writeFileDurably(join(metaPath, CLOCK_FILE), `${JSON.stringify(present)}\n`);
  } catch {
    // Then the next run believes the clock.
  }
}

/** Undefined where boots cannot be told apart. */
function presentClock(): ClockRecord | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const nowMs = Date.now();
    const awakeAtMs = Math.round(nowMs - Number(process.hrtime.bigint() / 1_000_000n));
    return { version: VERSION, boot, bootedAtMs: Math.round(nowMs - uptime() * 1000), awakeAtMs };
  } catch {
    return undefined;
  }
}
