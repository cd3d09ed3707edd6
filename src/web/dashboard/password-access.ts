/**
 * A name and a password, which cannot be guessed by trying: after some wrong ones from an address no more are looked at for a while. Who
 * has once given the right one is known by a cookie, so that nobody behind the same proxy keeps the real user out.
 */

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { peerOf } from '../peer-address.ts';
import { type Access, type Credentials, cookieOf } from './access.ts';
import { textResponse } from './responses.ts';

const KNOWN_COOKIE = 'litestream_known';
/** Wrong passwords in a row that cost nothing. */
const FREE_GUESSES = 10;
/** After these, one more each so often. */
const GUESS_MS = 2000;
/** Addresses that are remembered; the one that was wrong least recently makes room. */
const MAX_PEERS = 1000;

export class PasswordAccess {
  readonly #credentials: Credentials;
  readonly #now: () => number;
  readonly #known: string = randomBytes(24).toString('base64url');
  /** When the guesses of an address will be forgotten, in ms of the clock. */
  readonly #forgottenAtMs = new Map<string, number>();

  /** @param now a clock in milliseconds */
  constructor(credentials: Credentials, now: () => number = () => performance.now()) {
    this.#credentials = credentials;
    this.#now = now;
  }

  /** What a request may do, or the answer that refuses it. */
  of(request: Request): Access {
    const header = request.headers.get('authorization');
    const peer = peerOf(request);
    const known = isSame(cookieOf(request, KNOWN_COOKIE) ?? '', this.#known);
    if (header !== null && !known && !this.#mayGuess(peer)) {
      return textResponse(429, 'Too many wrong passwords: wait some seconds, then try again.', {
        'retry-after': String(Math.ceil(GUESS_MS / 1000)),
      });
    }
    if (isRight(header ?? '', this.#credentials)) {
      return { cookie: `${KNOWN_COOKIE}=${this.#known}; HttpOnly; SameSite=Strict` };
    }
    if (header !== null && !known) this.#count(peer);
    return textResponse(401, 'A user name and a password are needed.', {
      'www-authenticate': 'Basic realm="litestream", charset="UTF-8"',
    });
  }

  #mayGuess(peer: string): boolean {
    const leftMs = (this.#forgottenAtMs.get(peer) ?? -Infinity) - this.#now();
    return leftMs <= (FREE_GUESSES - 1) * GUESS_MS;
  }

  #count(peer: string): void {
    const fromMs = Math.max(this.#now(), this.#forgottenAtMs.get(peer) ?? -Infinity);
    this.#forgottenAtMs.delete(peer);
    this.#forgottenAtMs.set(peer, fromMs + GUESS_MS);
    const [oldest] = this.#forgottenAtMs.keys();
    if (oldest !== undefined && this.#forgottenAtMs.size > MAX_PEERS) this.#forgottenAtMs.delete(oldest);
  }
}

function isRight(header: string, { username, password }: Credentials): boolean {
  const given = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(header)?.[1] ?? '';
  return isSame(Buffer.from(given, 'base64').toString('utf8'), `${username}:${password}`);
}

/** Hashes have one length: neither it nor the place of the first difference can be measured. */
function isSame(a: string, b: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}
