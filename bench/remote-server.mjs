/**
 * A process of its own: the S3 server of the tests behind a link with a round trip. Over a real link a connection takes a
 * round trip to be made, and has no more bytes under way than its window; so here. Nothing is lost, and the line itself
 * is as fast as the machine.
 *
 * `node --expose-gc remote-server.mjs SERVER_MODULE ROUND_TRIP_MS`, with an IPC channel: each message is a call of one of `calls`.
 */

import { promises as fs } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { duplexPair } from 'node:stream';

/** What Linux lets a connection send before it is acknowledged (net.ipv4.tcp_wmem). */
const WINDOW_BYTES = 4 * 2 ** 20;
/** What a socket reads at once; the server writes a body in one piece. */
const PIECE_BYTES = 64 * 2 ** 10;

const [module = '', roundTripMs = '0'] = process.argv.slice(2);
const { S3Server } = await import(module);
const server = await S3Server.start({ trusting: true });
const link = await startLink(Number(roundTripMs));

const calls = {
  /** Where the link begins, and what the server wants to see. */
  address: () => ({ endpoint: `http://127.0.0.1:${link.address().port}`, ...server.credentials }),
  /** Puts all files of a folder into the bucket. */
  load: async ({ folder, prefix }) => {
    for (const name of await fs.readdir(folder, { recursive: true })) {
      const path = join(folder, name);
      if ((await fs.stat(path)).isFile()) server.bucket().put(`${prefix}${name}`, await fs.readFile(path));
    }
  },
  clear: () => {
    for (const key of [...server.bucket().keys()]) server.bucket().delete(key);
    server.clearRequests();
    // What the last run has left is collected now, not in the next one.
    globalThis.gc();
  },
  /** Resolves when there is an object whose key ends so. */
  stored: (suffix) =>
    new Promise((resolve) => {
      const look = () => {
        if ([...server.bucket().keys()].some((key) => key.endsWith(suffix))) resolve();
      };
      server.onAnswer = look;
      look();
    }),
};

process.on('message', async ({ number, call, options }) => {
  process.send({ number, result: await calls[call](options) });
});
process.on('disconnect', () => process.exit());

/** Listens on a free port of loopback and passes everything on to the server, later, without a second connection's cost. */
function startLink(roundTrip) {
  const listener = createServer({ noDelay: true }, (near) => {
    const [far, served] = duplexPair();
    for (const [end, other] of [
      [near, far],
      [far, near],
    ]) {
      end.on('error', () => other.destroy());
    }
    // The first bytes come after the round trip in which the connection would have been made.
    pass(near, far, roundTrip, roundTrip);
    pass(far, near, roundTrip, 0);
    server.accept(served);
  });
  return new Promise((resolve) => listener.listen(0, '127.0.0.1', () => resolve(listener)));
}

function pass(from, to, roundTrip, connectMs) {
  const readyAtMs = performance.now() + connectMs;
  /** What the window has no room for yet; null is the end. */
  const waiting = [];
  const underWay = [];
  let sentBytes = 0;
  const send = () => {
    while (waiting.length > 0 && sentBytes < WINDOW_BYTES) {
      const chunk = waiting.shift();
      const waitMs = Math.max(0, readyAtMs - performance.now());
      if (chunk === null) {
        setTimeout(() => to.end(), waitMs + roundTrip / 2);
        continue;
      }
      const piece = chunk.subarray(0, PIECE_BYTES);
      if (piece.length < chunk.length) waiting.unshift(chunk.subarray(PIECE_BYTES));
      underWay.push(piece);
      sentBytes += piece.length;
      // Timers of different lengths may overtake each other.
      setTimeout(() => to.write(underWay.shift()), waitMs + roundTrip / 2);
      setTimeout(() => {
        sentBytes -= piece.length;
        send();
      }, waitMs + roundTrip);
    }
    if (waiting.length > 0) from.pause();
    else from.resume();
  };
  const add = (chunk) => {
    waiting.push(chunk);
    send();
  };
  from.on('data', add);
  from.on('end', () => add(null));
  from.on('close', () => setTimeout(() => to.destroy(), connectMs + roundTrip));
}
