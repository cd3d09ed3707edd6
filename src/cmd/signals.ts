/** SIGINT and SIGTERM as values: commands that have something to finish wait for them. */

export type StopSignal = 'SIGINT' | 'SIGTERM';

const STOP_SIGNALS: readonly StopSignal[] = ['SIGINT', 'SIGTERM'];
const SIGNAL_NUMBERS: Record<StopSignal, number> = { SIGINT: 2, SIGTERM: 15 };

/** What a shell reports for a process that died of `signal`. */
export function stopExitCode(signal: StopSignal): number {
  return 128 + SIGNAL_NUMBERS[signal];
}

/** Catches stop signals from now on, for the rest of the process: they no longer end it by themselves. */
export function onStopSignal(listener: (signal: StopSignal) => void): void {
  for (const signal of STOP_SIGNALS) process.on(signal, () => listener(signal));
}
