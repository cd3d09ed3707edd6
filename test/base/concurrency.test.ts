import { describe, expect, it } from 'vitest';
import {
  Mutex,
  Semaphore,
  backoffDelayMs,
  linkSignals,
  sleep,
  timeoutSignal,
  timerDelay,
} from '../../src/base/concurrency.ts';

/** A promise with its resolve function outside. */
function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

describe('Semaphore', () => {
  it('runs at most its limit at once and the rest in order', async () => {
    const semaphore = new Semaphore(2);
    const gates = Array.from({ length: 6 }, deferred);
    const started: number[] = [];
    let running = 0;
    let most = 0;
    const all = gates.map((gate, number) =>
      semaphore.run(async () => {
        started.push(number);
        most = Math.max(most, ++running);
        await gate.promise;
        running--;
        return number;
      }),
    );
    for (const gate of gates) {
      gate.resolve();
      await gate.promise;
    }
    expect(await Promise.all(all)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(started).toEqual([0, 1, 2, 3, 4, 5]);
    expect(most).toBe(2);
  });

  it('frees the place of a call that throws', async () => {
    const semaphore = new Semaphore(1);
    await expect(semaphore.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
    await expect(
      semaphore.run(() => {
        throw new Error('no at once');
      }),
    ).rejects.toThrow('no at once');
    expect(await semaphore.run(() => 1)).toBe(1);
  });

  it('lets an aborted call leave the queue without taking a place', async () => {
    const semaphore = new Semaphore(1);
    const gate = deferred();
    const first = semaphore.run(() => gate.promise);
    const controller = new AbortController();
    const second = semaphore.run(() => 'second', { signal: controller.signal });
    const third = semaphore.run(() => 'third');
    controller.abort();
    await expect(second).rejects.toMatchObject({ code: 'aborted' });
    gate.resolve();
    await first;
    expect(await third).toBe('third');
    expect(await semaphore.run(() => 'again')).toBe('again');
  });

  it('refuses to start when the signal has fired', async () => {
    let ran = false;
    const run = new Semaphore(1).run(() => (ran = true), { signal: AbortSignal.abort() });
    await expect(run).rejects.toMatchObject({ code: 'aborted' });
    expect(ran).toBe(false);
  });
});

describe('Mutex', () => {
  it('runs one call at a time', async () => {
    const mutex = new Mutex();
    const events: string[] = [];
    await Promise.all(
      ['a', 'b', 'c'].map((name) =>
        mutex.run(async () => {
          events.push(`+${name}`);
          await Promise.resolve();
          events.push(`-${name}`);
        }),
      ),
    );
    expect(events).toEqual(['+a', '-a', '+b', '-b', '+c', '-c']);
  });
});

describe('backoffDelayMs', () => {
  it('doubles the bound up to the maximum and is fully jittered', () => {
    const options = { baseMs: 100, maxMs: 1000 };
    const bounds = [0, 1, 2, 3, 4, 50, 2000].map((n) => backoffDelayMs(n, { ...options, random: () => 1 }));
    expect(bounds).toEqual([100, 200, 400, 800, 1000, 1000, 1000]);
    expect(backoffDelayMs(3, { ...options, random: () => 0 })).toBe(0);
  });
});

describe('timerDelay and timeoutSignal', () => {
  it('give timers nothing that they do not take', () => {
    expect([-1, 0, 0.5, 1000, 2 ** 31 - 1, 2 ** 31, Infinity].map(timerDelay)).toEqual([
      ...[0, 0, 0.5, 1000, 2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1],
    ]);
  });

  it('do not end at once what is to last for months', async () => {
    const signal = timeoutSignal(1e12);
    const ending = new AbortController();
    let isOver = false;
    const sleeping = sleep(1e12, ending).finally(() => (isOver = true));
    // What does not fit ends after a millisecond.
    await sleep(20);
    expect([signal.aborted, isOver]).toEqual([false, false]);
    ending.abort();
    await expect(sleeping).rejects.toMatchObject({ code: 'aborted' });
  });
});

describe('sleep', () => {
  it('rejects with aborted as soon as the signal fires, also when it had fired before', async () => {
    const controller = new AbortController();
    const sleeping = sleep(3_600_000, { signal: controller.signal });
    controller.abort();
    await expect(sleeping).rejects.toMatchObject({ code: 'aborted' });
    await expect(sleep(3_600_000, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'aborted',
    });
    await sleep(1);
  });

  it('lets many wait on one signal without a warning', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    const controller = new AbortController();
    const semaphore = new Semaphore(1);
    const { signal } = controller;
    const waits = Array.from({ length: 20 }, () => [
      sleep(3_600_000, { signal }),
      semaphore.run(() => sleep(3_600_000, { signal }), { signal }),
    ]);
    controller.abort();
    await Promise.allSettled(waits.flat());
    // Warnings are emitted in a later turn.
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });
});

describe('linkSignals', () => {
  it('fires with the first signal, for its reason, until it is unlinked', () => {
    const [first, second] = [new AbortController(), new AbortController()];
    const linked = linkSignals(undefined, first.signal, second.signal);
    const unlinked = linkSignals(first.signal, second.signal);
    unlinked.unlink();
    expect(linked.signal.aborted).toBe(false);
    second.abort('the second');
    first.abort('the first');
    expect(linked.signal.reason).toBe('the second');
    expect(linkSignals(first.signal).signal.reason).toBe('the first');
    expect(unlinked.signal.aborted).toBe(false);
  });
});
