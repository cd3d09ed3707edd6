/** What the contract of object-store.ts says of servers that refuse, fail, fall silent and go away, for every driver. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { isRetryable } from '../../src/storage/retry.ts';
import { withRetry } from '../../src/storage/retrying-store.ts';

import { startFaultProxy } from '../support/fault-proxy.ts';
import type { FaultProxy, ProxyFault } from '../support/fault-proxy.ts';
import { until } from '../support/process.ts';
import { chooseSeed, generator } from '../support/workload.ts';
import { chunked, getBytes, readAll } from './contract.ts';
import type { MakeOptions, MakeStore, Network } from './contract.ts';

const MIB = 1024 * 1024;
/** Short enough to wait for in a test, long enough for a busy machine to answer in. */
const TIMEOUTS = { connectMs: 2000, idleMs: 1000 };
const PATIENT = { connectMs: 600_000, idleMs: 600_000 };

const bytes = (text: string): Uint8Array => Buffer.from(text);

interface Rig {
  readonly store: ObjectStore;
  readonly proxy: FaultProxy;
  readonly end: () => Promise<void>;
}

async function connect(make: MakeStore, network: Network, options: Partial<MakeOptions> = {}): Promise<Rig> {
  let proxy: FaultProxy | undefined;
  const { store, cleanup } = await make({
    timeouts: TIMEOUTS,
    ...options,
    through: async (server) => (proxy = await startFaultProxy(network.protocol, server)),
  });
  const started = proxy;
  if (started === undefined) throw new Error('the store was opened without a proxy');
  const end = async (): Promise<void> => {
    await store.close();
    await started.close();
    await cleanup();
  };
  return { store, proxy: started, end };
}

/** One call of each kind, on the object `k` that is there. */
function callsOf(store: () => ObjectStore): [string, (signal?: AbortSignal) => Promise<unknown>][] {
  return [
    ['put', (signal) => store().put('k', bytes('value'), { signal })],
    ['get', async (signal) => readAll((await store().get('k', { signal })).stream)],
    ['list', (signal) => readAll(store().list('', { signal }))],
    ['listPrefixes', (signal) => readAll(store().listPrefixes('', { signal }))],
    ['delete', (signal) => store().delete(['absent'], { signal })],
  ];
}

/** What `call` rejects with. */
async function failureOf(call: () => Promise<unknown>): Promise<unknown> {
  const outcome = await call().then(
    () => ({ resolved: true }),
    (error: unknown) => ({ error }),
  );
  if ('resolved' in outcome) throw new Error('it succeeded, and should not have');
  return outcome.error;
}

/** @param make - as for describeStore(); its `through` is called once. */
export function describeNetwork(name: string, make: MakeStore, network: Network): void {
  describe(name, () => {
    let rig: Rig;
    let store: ObjectStore;
    let proxy: FaultProxy;
    const calls = callsOf(() => store);

    beforeEach(async () => {
      rig = await connect(make, network);
      ({ store, proxy } = rig);
      await store.put('k', bytes('value'));
    });
    afterEach(async () => {
      await rig.end();
    });

    const expectWorks = async (): Promise<void> => {
      for (const [, call] of calls) await call();
      expect((await getBytes(store, 'k')).toString()).toBe('value');
    };
    const expectPassing = async (call: () => Promise<unknown>): Promise<void> => {
      const error = await failureOf(call);
      expect(isRetryable(error), `not a passing failure: ${inspect(error)}`).toBe(true);
    };

    it.skipIf(network.anyCredentials)('names refused credentials and never shows them', async () => {
      const wrongSecret = Buffer.from('this is not the right secret').toString('base64');
      const refused = await connect(make, network, { wrongSecret });
      try {
        for (const [, call] of callsOf(() => refused.store)) {
          const error = await failureOf(call);
          expect(error).toMatchObject({ code: 'permission' });
          const everything = inspect(error, { depth: 10, showHidden: true });
          expect(everything).not.toContain(wrongSecret);
          expect(everything).not.toMatch(/StringToSign|authorization:|not the right secret/i);
        }
      } finally {
        await refused.end();
      }
    });

    it.each<ProxyFault>(['dead', 'reset', 'stall'])(
      '%s: each call fails for now, and works afterwards',
      async (fault) => {
        await proxy.set(fault);
        await Promise.all(calls.map(([, call]) => expectPassing(call)));
        await proxy.set('pass');
        await expectWorks();
      },
    );

    it('answers an abort while the server is silent', async () => {
      const patient = await connect(make, network, { timeouts: PATIENT });
      try {
        await patient.store.put('k', bytes('value'));
        await patient.proxy.set('stall');
        for (const [call, start] of callsOf(() => patient.store)) {
          const controller = new AbortController();
          const ended = failureOf(() => start(controller.signal));
          setTimeout(() => controller.abort(), 20);
          expect(await ended, call).toMatchObject({ code: 'aborted' });
        }
      } finally {
        await patient.end();
      }
    });

    it.each([{ cutAfter: 100_000 }, { cutAfter: 100_000, stall: true }])(
      'a body that ends or stalls too early is no end: $cutAfter bytes, stall $stall',
      async (fault) => {
        const data = randomBytes(3 * MIB);
        await store.put('big', data);
        await proxy.set(fault);
        const chunks: Uint8Array[] = [];
        await expectPassing(async () => {
          for await (const chunk of (await store.get('big')).stream) chunks.push(Uint8Array.from(chunk));
        });
        const received = Buffer.concat(chunks);
        expect(received.length).toBeLessThan(data.length);
        expect(received.equals(data.subarray(0, received.length))).toBe(true);
        await proxy.set('pass');
        expect((await getBytes(store, 'big')).equals(data)).toBe(true);
      },
    );

    it('a body that is cut goes on where it stopped, also one of a range, and nothing is sent twice', async () => {
      const [sizeBytes, start] = [12 * MIB, 1000];
      const data = randomBytes(sizeBytes);
      const patient = withRetry(store, { attempts: 100, baseMs: 5, maxMs: 20 });
      await patient.put('big', data);
      const before = proxy.received;
      const cutAfter = 9 * MIB;
      await proxy.set({ cutAfter });
      const reading = getBytes(patient, 'big', { start });
      await until(() => proxy.received - before >= cutAfter);
      await proxy.set('pass');
      expect((await reading).equals(data.subarray(start))).toBe(true);
      // What was under way when it broke may come again, but not the nine.
      expect(proxy.received - before).toBeLessThan(sizeBytes + 4 * MIB);
    });

    it.each([{ cutAfter: 3000 }, { cutAfter: 3000, stall: true }])(
      'a listing that is cut is never taken for a shorter one: $cutAfter bytes, stall $stall',
      async (fault) => {
        const names = Array.from({ length: 60 }, (_, number) => `${String(number + 10)}-${'x'.repeat(100)}`);
        const patient = withRetry(store, { attempts: 5 });
        for (const name of names) await patient.put(`many/${name}/y`, bytes('x'));
        await proxy.set(fault);
        const seen: string[] = [];
        await expectPassing(async () => {
          for await (const { key } of store.list('many/')) seen.push(key.slice(5, -2));
        });
        await expectPassing(async () => {
          for await (const name of store.listPrefixes('many/')) seen.push(name);
        });
        expect(names).toEqual(expect.arrayContaining(seen));
        await proxy.set('pass');
        expect((await readAll(store.listPrefixes('many/'))).sort()).toEqual(names);
      },
    );

    it.each(['bytes', 'a stream'])(
      'an abort ends a put of %s that is on its way, and shows nothing',
      async (kind) => {
        const patient = await connect(make, network, { timeouts: PATIENT });
        try {
          await patient.store.put('k', bytes('value'));
          const controller = new AbortController();
          const { signal } = controller;
          const data = randomBytes(22 * MIB);
          let sentBytes = 0;
          patient.proxy.onSent = (sizeBytes) => {
            sentBytes += sizeBytes;
            if (sentBytes < MIB || signal.aborted) return;
            void patient.proxy.set('stall');
            controller.abort();
          };
          const body = kind === 'bytes' ? data : chunked(data, 256 * 1024);
          expect(await failureOf(() => patient.store.put('k', body, { signal }))).toMatchObject({
            code: 'aborted',
          });
          expect(signal.aborted).toBe(true);
          // Else a connection that lost something on the way would be waited for.
          await patient.proxy.set('reset');
          await patient.proxy.set('pass');
          const again = withRetry(patient.store, { attempts: 10, baseMs: 5, maxMs: 20 });
          expect((await readAll(again.list(''))).map(({ key }) => key)).toEqual(['k']);
          expect((await getBytes(again, 'k')).toString()).toBe('value');
        } finally {
          await patient.end();
        }
      },
    );

    it.each<ProxyFault>(['dead', 'stall'])('an upload that meets %s leaves what was there', async (fault) => {
      async function* source(): AsyncGenerator<Uint8Array> {
        yield* chunked(randomBytes(11 * MIB), 256 * 1024);
        await proxy.set(fault);
        yield* chunked(randomBytes(11 * MIB), 256 * 1024);
      }
      await expectPassing(() => store.put('k', source()));
      await proxy.set('pass');
      expect((await readAll(store.list(''))).map(({ key }) => key)).toEqual(['k']);
      await expectWorks();
    });

    it.runIf(network.protocol === 'http')(
      'takes a refusal that is cut for what it is, or for passing',
      async () => {
        await proxy.set({ cutAfter: 0 });
        const error = await failureOf(() => store.get('absent'));
        expect(error).toMatchObject({ code: expect.stringMatching(/^(not-found|unavailable)$/) as string });
      },
    );

    it('goes on after faults at random, and never takes one for an answer', async () => {
      await throughChaos(store, proxy, network);
    });

    describe.runIf(network.protocol === 'http')('answers', () => {
      const statuses: [number, string | undefined, number | undefined][] = [
        [408, undefined, undefined],
        [429, '7', 7000],
        [429, undefined, undefined],
        [500, undefined, undefined],
        [500, '2', 2000],
        [504, undefined, undefined],
        [502, 'nonsense', undefined],
        [503, '0', 0],
        [503, '3600', 3_600_000],
      ];
      it.each(statuses)(
        '%i with Retry-After %s is passing, and not tried again by the driver',
        async (...row) => {
          const [status, retryAfter, retryAfterMs] = row;
          await proxy.set({ status, headers: retryAfter === undefined ? {} : { 'retry-after': retryAfter } });
          const before = proxy.count;
          for (const [call, start] of calls) {
            expect(await failureOf(start), call).toMatchObject({ code: 'unavailable', retryAfterMs });
          }
          expect(proxy.count - before).toBe(calls.length);
          await proxy.set('pass');
          await expectWorks();
        },
      );

      it('with a Retry-After that is a date is passing until then', async () => {
        const at = new Date(Math.ceil(Date.now() / 1000) * 1000 + 120_000);
        await proxy.set({ status: 503, headers: { 'retry-after': at.toUTCString() } });
        for (const [call, start] of calls) {
          const error = await failureOf(start);
          const ended = Date.now();
          expect(error, call).toMatchObject({
            code: 'unavailable',
            retryAfterMs: expect.any(Number) as number,
          });
          const { retryAfterMs } = error as { retryAfterMs: number };
          expect(retryAfterMs, call).toBeGreaterThanOrEqual(at.getTime() - ended);
          expect(retryAfterMs, call).toBeLessThanOrEqual(121_000);
        }
      });

      it.each([401, 403])('%i is a matter of permission', async (status) => {
        await proxy.set({ status });
        for (const [call, start] of calls) {
          expect(await failureOf(start), call).toMatchObject({ code: 'permission' });
        }
      });
    });
  });
}

/** A long-suffering user of the store: what it puts is there, what it deletes is not, whatever the network does. */
async function throughChaos(store: ObjectStore, proxy: FaultProxy, network: Network): Promise<void> {
  const seed = chooseSeed();
  const random = generator(seed);
  const faults: ProxyFault[] = ['reset', 'stall', { cutAfter: 1000 }, { cutAfter: 0 }];
  if (network.protocol === 'http') faults.push({ status: 503 }, { status: 500 }, { status: 429 });
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  // Over TCP a fault lasts until it is changed; HTTP has one for each request.
  const http = network.protocol === 'http';
  if (http) proxy.onRequest = () => (random() < 0.3 ? pick(faults) : 'pass');
  const patient = withRetry(store, { attempts: 100, baseMs: 5, maxMs: 50 });
  const expected = new Map<string, Buffer>([['k', Buffer.from('value')]]);
  for (let step = 0; step < 25; step++) {
    const what = `seed ${seed}, step ${step}`;
    if (!http && random() < 0.5) {
      await proxy.set(pick(faults));
      setTimeout(() => void proxy.set('pass'), 30);
    }
    const key = `${pick(['a', 'b'])}/${pick(['x', 'y', 'z'])}`;
    const action = random();
    if (action < 0.5) {
      const data = randomBytes(Math.floor(random() * 200_000));
      await patient.put(key, data);
      expected.set(key, data);
    } else if (action < 0.65) {
      await patient.delete([key, 'absent']);
      expected.delete(key);
    } else if (action < 0.8) {
      const listed = (await readAll(patient.list(''))).map((info) => `${info.key} ${info.sizeBytes}`);
      const wanted = [...expected].map(([name, data]) => `${name} ${data.length}`);
      expect(listed.sort(), what).toEqual(wanted.sort());
    } else {
      const wanted = expected.get(key);
      const got = await getBytes(patient, key).catch((error: unknown) => error);
      if (wanted === undefined) expect(got, what).toMatchObject({ code: 'not-found' });
      else expect(wanted.equals(got as Buffer), what).toBe(true);
    }
  }
}
