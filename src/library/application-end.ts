/**
 * The end of the application's process as a chance to store the last changes. The process keeps its own behaviour: where the
 * application listens to a signal itself, what happens is its decision; where it does not, the process dies of the signal, only
 * later. A second signal is not held up.
 */

type Stop = () => Promise<void>;

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

const open = new Set<Stop>();

/** Calls `stop` when the process ends of itself or by a signal that nobody else listens to. @returns what takes that back */
export function beforeEnd(stop: Stop): () => void {
  if (open.size === 0) {
    // Before others, so that they no longer see us: some take a signal for another's when somebody listens beside them.
    for (const signal of SIGNALS) process.prependListener(signal, onSignal);
    process.on('beforeExit', onIdle);
  }
  open.add(stop);
  return () => {
    open.delete(stop);
    if (open.size > 0) return;
    ignoreSignals();
    process.removeListener('beforeExit', onIdle);
  };
}

function ignoreSignals(): void {
  for (const signal of SIGNALS) process.removeListener(signal, onSignal);
}

function onSignal(signal: NodeJS.Signals): void {
  ignoreSignals();
  if (process.listenerCount(signal) > 0) return;
  void stopAll().then(() => process.kill(process.pid, signal));
}

function onIdle(): void {
  void stopAll();
}

async function stopAll(): Promise<void> {
  await Promise.allSettled([...open].map((stop) => stop()));
}
