/** Logins by an address that is shown once: a token, which is good for one use, is exchanged for a session. */

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const SESSION_MS = 12 * 3600_000;
/** The oldest makes room. */
const MAX_SESSIONS = 20;

const random = (): string => randomBytes(32).toString('base64url');
const hash = (text: string): Buffer => createHash('sha256').update(text).digest();

export class Logins {
  readonly #show: (token: string) => void;
  readonly #now: () => number;
  /** Hashes of the cookies, and when each session ends. */
  readonly #sessions = new Map<string, number>();
  #token: Buffer | undefined;

  /**
   * @param show is given each token, and must let nobody but the user see it: with it one may do everything
   * @param now a clock in milliseconds
   */
  constructor(show: (token: string) => void, now: () => number = () => performance.now()) {
    this.#show = show;
    this.#now = now;
  }

  /** Shows a token. The one before it is void. */
  offer(): void {
    const token = random();
    this.#token = hash(token);
    this.#show(token);
  }

  /** Uses the token up, and shows the next one. @returns the session; undefined for a token that is not the present one */
  enter(token: string): string | undefined {
    if (this.#token === undefined || !timingSafeEqual(hash(token), this.#token)) return undefined;
    this.offer();
    const session = random();
    const [oldest] = this.#sessions.keys();
    if (oldest !== undefined && this.#sessions.size >= MAX_SESSIONS) this.#sessions.delete(oldest);
    this.#sessions.set(hash(session).toString('hex'), this.#now() + SESSION_MS);
    return session;
  }

  isOpen(session: string): boolean {
    return (this.#sessions.get(hash(session).toString('hex')) ?? -Infinity) > this.#now();
  }
}
