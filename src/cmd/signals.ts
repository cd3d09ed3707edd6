/** SIGINT and SIGTERM as values: commands that have something to finish wait for them. */

import type { Supervision } from '../control/supervision.ts';

export type StopSignal = 'SIGINT' | 'SIGTERM';

const STOP_SIGNALS: readonly StopSignal[] = ['SIGINT', 'SIGTERM'];
const SIGNAL_NUMBERS: Record<StopSignal, number> = { SIGINT: 2, SIGTERM: 15 };

/** What a shell reports for a process that died of `signal`. */
export function stopExitCode(signal: StopSignal): number {
  return 128 + SIGNAL_NUMBERS[signal];
}

/**
 * Catches stop signals from now on, for the rest of the process: they no longer end it by themselves. A supervised process
 * takes the end of its parent for one, and no other: what is sent to all processes of an application comes to it too, but the
 * application may still write.
 */
export function onStopSignal(listener: (signal: StopSignal) => void, supervision?: Supervision): void {
  for (const signal of STOP_SIGNALS) {
    process.on(signal, () => {
      if (supervision === undefined) listener(signal);
    });
  }
  supervision?.onEnd(() => listener('SIGTERM'));
}
