/**
 * Access tokens from Google's default credentials: the key file that GOOGLE_APPLICATION_CREDENTIALS names, gcloud's own,
 * or the service account of the machine. The library refreshes a token some minutes before it expires.
 */

import type { GoogleAuth } from 'google-auth-library';
import { allowManyListeners } from '../../base/concurrency.ts';

const SCOPE = 'https://www.googleapis.com/auth/devstorage.read_write';

export class GoogleCredentials {
  readonly #timeoutMs: number;
  #auth: Promise<GoogleAuth> | undefined;
  #secret = '';

  /** @param timeoutMs - until a token is had. */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** The part of the last headers that must not be shown. */
  get secrets(): readonly string[] {
    return this.#secret === '' ? [] : [this.#secret];
  }

  /** Headers that authorise a request. Rejects with the library's errors, ETIMEDOUT when it takes too long. */
  async headers(signal: AbortSignal | undefined): Promise<Record<string, string>> {
    this.#auth ??= newAuth();
    try {
      const headers = await this.#limited(
        this.#auth.then((auth) => auth.getRequestHeaders()),
        signal,
      );
      this.#secret = (headers.get('authorization') ?? '').replace(/^Bearer\s+/i, '');
      return Object.fromEntries(headers);
    } catch (error) {
      // The library remembers what it did not find; the next request looks again.
      if (signal?.aborted !== true) this.renew();
      throw error;
    }
  }

  /** Forgets everything: the next request reads the key file, or asks the machine, afresh. */
  renew(): void {
    this.#auth = undefined;
  }

  /** The library has neither a limit nor an abort for all of its ways; what it still does then ends by itself. */
  #limited<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    allowManyListeners(signal);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(new Error('aborted'));
      const onTimeout = (): void => {
        const message = `no access token within ${this.#timeoutMs} ms`;
        reject(Object.assign(new Error(message), { code: 'ETIMEDOUT' }));
      };
      const timer = setTimeout(onTimeout, this.#timeoutMs);
      signal?.addEventListener('abort', onAbort, { once: true });
      work.then(resolve, reject).finally(() => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      });
    });
  }
}

/** Loaded here, since neither an emulator nor a command that fails early needs it. */
async function newAuth(): Promise<GoogleAuth> {
  // The default: of a CommonJS module, a bundle has no other.
  const { GoogleAuth, gcpMetadata } = (await import('google-auth-library')).default;
  gcpMetadata.resetIsAvailableCache();
  // Objects need no project; without any, the library starts gcloud to ask for one.
  return new GoogleAuth({ scopes: SCOPE, projectId: 'none' });
}
