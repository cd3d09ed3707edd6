/** Stores that lie: lists that are stale, empty, cut or in another order, puts that are lost, late or doubled. */

import { handle } from '../support/s3/handlers.ts';
import { Bucket, S3Server, type Fault, type S3Request } from '../support/s3-server.ts';
import { pause } from '../support/process.ts';
import { generator } from '../support/workload.ts';
import { s3Environment, s3Replica } from '../e2e/s3-rig.ts';
import type { Group } from './case.ts';
import { beginStored, situationGroup } from './situations.ts';
import type { Life } from './life.ts';
import { World } from './world.ts';

/** After so long a late or doubled put arrives. */
const LATE_MS = 700;

/** How the store lies in one case. */
interface Lie {
  /** From when the lies begin: while the first life runs, or before the next one. */
  readonly when: 'running' | 'between';
  tell(server: S3Server, random: () => number): void;
}

/** Lists as of `bucket`, as often as `times`. */
function listFrom(server: S3Server, bucket: Bucket, times: number): void {
  let left = times;
  server.onRequest = (request): Fault => {
    if (!/^ListObjects/.test(request.operation) || left-- <= 0) return 'pass';
    return answered(server, request, bucket);
  };
}

function answered(server: S3Server, request: S3Request, bucket: Bucket): Fault {
  const { status, headers, body } = handle(request, Buffer.alloc(0), bucket, server.region);
  const texts = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
  return { status, headers: texts, body: body.toString() };
}

/** What is in the bucket now, of the first `share` of its keys. */
function copyOf(server: S3Server, share: number): Bucket {
  const copy = new Bucket();
  const keys = server.bucket().keys();
  for (const key of keys.slice(0, Math.floor(keys.length * share))) {
    const { data, etag, modifiedAt } = server.bucket().get(key);
    copy.put(key, data, etag, modifiedAt);
  }
  return copy;
}

class Reversed extends Bucket {
  override list(...args: Parameters<Bucket['list']>): ReturnType<Bucket['list']> {
    const { entries, next } = super.list(...args);
    return { entries: [...entries].reverse(), next };
  }
}

/** Of `count` puts whose keys match, those that were answered are not there, for `ms` or for good. */
function losePuts(server: S3Server, pattern: RegExp, count: number, ms = Infinity): void {
  let left = count;
  server.onAnswer = ({ operation, key }) => {
    if (!/^(PutObject|CompleteMultipartUpload)$/.test(operation) || !pattern.test(key) || left-- <= 0) return;
    const { data, etag, modifiedAt } = server.bucket().get(key);
    server.bucket().delete(key);
    if (ms < Infinity) void pause(ms).then(() => server.bucket().put(key, data, etag, modifiedAt));
  };
}

const LIES: Readonly<Record<string, Lie>> = {
  'stale-list': {
    when: 'between',
    tell: (server, random) =>
      listFrom(server, copyOf(server, 0.4 + random() * 0.55), 1 + Math.floor(random() * 4)),
  },
  'empty-list': {
    when: 'between',
    tell: (server, random) => listFrom(server, new Bucket(), 1 + Math.floor(random() * 4)),
  },
  'stale-list-while-running': {
    when: 'running',
    tell: (server, random) => listFrom(server, copyOf(server, random()), 3),
  },
  'reordered-list': {
    when: 'between',
    tell: (server) => {
      server.onRequest = (request) => {
        if (!/^ListObjects/.test(request.operation)) return 'pass';
        const all = new Reversed();
        for (const key of server.bucket().keys()) {
          const { data, etag, modifiedAt } = server.bucket().get(key);
          all.put(key, data, etag, modifiedAt);
        }
        return answered(server, request, all);
      };
    },
  },
  'list-with-error': {
    when: 'between',
    tell: (server) => {
      let left = 2;
      const body = '<?xml version="1.0"?><Error><Code>InternalError</Code></Error>';
      server.onRequest = ({ operation }) =>
        /^ListObjects/.test(operation) && left-- > 0 ? { status: 200, body } : 'pass';
    },
  },
  'lost-segments': { when: 'running', tell: (server) => losePuts(server, /\/wal\//, 1) },
  'lost-snapshot': { when: 'between', tell: (server) => losePuts(server, /\/snapshots\//, 1) },
  'late-puts': { when: 'running', tell: (server) => losePuts(server, /./, 3, LATE_MS) },
  'doubled-puts': {
    when: 'running',
    tell: (server) => {
      server.beforeAnswer = ({ operation, key }) => {
        if (operation !== 'PutObject' || !server.bucket().has(key)) return Promise.resolve();
        const old = server.bucket().get(key);
        void pause(LATE_MS).then(() => server.bucket().put(key, old.data));
        return Promise.resolve();
      };
    },
  },
  emptied: {
    when: 'running',
    tell: (server) => {
      for (const key of [...server.bucket().keys()]) server.bucket().delete(key);
    },
  },
};

async function rounds(world: World, life: Life): Promise<void> {
  for (let round = 0; round < 3; round++) {
    await world.app.commit(3);
    await world.claim(life, () => false);
  }
}

function beHonest(server: S3Server): void {
  server.onRequest = () => 'pass';
  server.onAnswer = () => undefined;
  server.beforeAnswer = () => Promise.resolve();
}

/** Whether what is claimed while the store lies is claimed in vain, and nobody could know better. */
const IN_VAIN = new Set(['lost-segments', 'late-puts', 'doubled-puts']);

async function runCase(name: string, seed: number): Promise<string> {
  const [lieName = ''] = name.split('/');
  const lie = LIES[lieName];
  if (!lie) throw new Error(`${name}: no such case`);
  const server = await S3Server.start();
  const random = generator(seed);
  const replica = [...s3Replica(server.endpoint), 'retention-check-interval: 200ms'];
  // Many segments in one index.
  const database = ['min-checkpoint-page-count: 500'];
  const options = { database, replica, env: s3Environment(server) };
  const tell = (): void => lie.tell(server, random);
  try {
    return await World.run(seed, options, async (world) => {
      world.struck = `(${lieName})`;
      const life = await beginStored(world);
      await rounds(world, life);
      if (lie.when === 'running') {
        tell();
        if (lieName === 'emptied') world.claimed = 0;
        await rounds(world, life);
      }
      if (lie.when === 'between') {
        await world.stop(life);
        await world.app.commit(2);
        if (lieName === 'lost-snapshot') await world.app.checkpoint('TRUNCATE');
        tell();
        const next = await world.start();
        await rounds(world, next);
        beHonest(server);
        await world.expectAll(next, `after a store that lies ${world.struck}`);
      } else {
        await world.stop(life);
        beHonest(server);
        await pause(LATE_MS);
        if (IN_VAIN.has(lieName)) world.claimed = 0;
        await world.expectClaimed(`after a store that lies ${world.struck}`);
      }
      await world.recover();
    });
  } finally {
    await server.close();
  }
}

const listed = situationGroup(
  'stores',
  Object.fromEntries(Object.keys(LIES).map((name) => [name, { run: () => Promise.resolve() }])),
);

export const STORES: Group = { ...listed, run: runCase };
