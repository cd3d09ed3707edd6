/** What each decorator hands on of a store that it does not change, and of what not every store has. */

import { beforeAll, describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/base/concurrency.ts';
import { RequestTallies, withCounts } from '../../src/storage/counting-store.ts';
import { withEncryption } from '../../src/storage/encryption/encrypting-store.ts';
import { ForwardingStore, optionalMembersOf } from '../../src/storage/forwarding-store.ts';
import { withLimit } from '../../src/storage/limited-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { withRetry } from '../../src/storage/retrying-store.ts';
import { newAgeKey, type AgeKey } from '../support/age.ts';

class Plain extends ForwardingStore {}

let key: AgeKey;
beforeAll(async () => {
  key = await newAgeKey();
});

const DECORATORS: readonly [
  name: string,
  decorate: (store: ObjectStore) => ObjectStore | Promise<ObjectStore>,
][] = [
  ['forwarding', (store) => new Plain(store)],
  ['counting', (store) => withCounts(store, new RequestTallies())],
  ['limited', (store) => withLimit(store, new Semaphore(1))],
  ['retrying', (store) => withRetry(store, { attempts: 2 })],
  [
    'encrypting',
    (store) => withEncryption(store, { recipients: [key.recipient], identities: [key.identity] }),
  ],
];

interface Call {
  readonly name: string;
  readonly args: readonly unknown[];
}

/** A store in memory that has every optional member, and tells what it was asked for. */
function everything(calls: Call[]): ObjectStore {
  const tell = <T>(name: string, answer: T) => {
    return (...args: unknown[]): Promise<T> => {
      // The last one is options.
      calls.push({ name, args: args.slice(0, ['stat', 'contentSize', 'delete'].includes(name) ? 1 : 2) });
      return Promise.resolve(answer);
    };
  };
  const inner = openMemoryStore();
  const members = {
    location: 'memory://here',
    capabilities: { local: false, concurrency: 7 },
    stat: tell('stat', { key: 'k', sizeBytes: 4, modifiedAt: new Date(9) }),
    putIfAbsent: tell('putIfAbsent', true),
    contentSize: tell('contentSize', 5),
    removeAbandoned: tell('removeAbandoned', 3),
    delete: tell('delete', undefined),
    close: tell('close', undefined),
  };
  return new Proxy(inner, {
    get: (target, name) => {
      if (name in members) return members[name as keyof typeof members];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** One that has none of them. */
function bare(): ObjectStore {
  const inner = openMemoryStore();
  const absent = ['stat', 'putIfAbsent', 'contentSize', 'removeAbandoned'];
  return new Proxy(inner, {
    get: (target, name) => {
      const value: unknown = absent.includes(String(name)) ? undefined : Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe.each(DECORATORS)('a %s store', (name, decorate) => {
  it('is where, what and as able as the one inside, and passes calls on', async () => {
    const calls: Call[] = [];
    const store = await decorate(everything(calls));
    expect(store).toMatchObject({
      type: 'memory',
      location: 'memory://here',
      capabilities: { local: false, concurrency: 7 },
    });
    await store.delete(['a', 'b']);
    await store.close();
    expect(calls.map((call) => call.name)).toEqual(['delete', 'close']);
    expect(calls[0]?.args[0]).toEqual(['a', 'b']);
    await store.put('x/y', Buffer.from('content'));
    const { stream } = await store.get('x/y');
    expect(Buffer.concat(await all(stream)).toString()).toBe('content');
    expect(await all(store.listPrefixes(''))).toEqual(['x']);
    expect((await all(store.list(''))).map((info) => info.key)).toEqual(['x/y']);
  });

  it('has what the one inside has', async () => {
    const calls: Call[] = [];
    const store = await decorate(everything(calls));
    expect(await store.removeAbandoned?.('p/', new Date(5))).toBe(3);
    expect(calls.at(-1)).toMatchObject({ name: 'removeAbandoned', args: ['p/', new Date(5)] });
    expect(await store.stat?.('k')).toEqual({ key: 'k', sizeBytes: 4, modifiedAt: new Date(9) });
    expect(calls.at(-1)).toMatchObject({ name: 'stat', args: ['k'] });
    if (name === 'encrypting') {
      expect(optionalMembersOf(store)).toEqual(['stat', 'contentSize', 'removeAbandoned']);
      return;
    }
    expect(optionalMembersOf(store)).toEqual(['stat', 'putIfAbsent', 'contentSize', 'removeAbandoned']);
    expect(await store.putIfAbsent?.('k', Buffer.from('d'))).toBe(true);
    expect(calls.at(-1)).toMatchObject({ name: 'putIfAbsent', args: ['k', Buffer.from('d')] });
    expect(await store.contentSize?.({ key: 'k', sizeBytes: 9 })).toBe(5);
    expect(calls.at(-1)).toMatchObject({ name: 'contentSize', args: [{ key: 'k', sizeBytes: 9 }] });
  });

  it('lacks what the one inside lacks', async () => {
    const store = await decorate(bare());
    const own = name === 'encrypting' ? ['contentSize'] : [];
    expect(optionalMembersOf(store)).toEqual(own);
    for (const member of ['stat', 'putIfAbsent', 'contentSize', 'removeAbandoned'] as const) {
      expect(store[member] === undefined, member).toBe(!own.includes(member));
    }
  });
});
