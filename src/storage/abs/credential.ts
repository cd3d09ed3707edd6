/**
 * Azure's default credential: a service principal or a workload's identity from AZURE_ variables, the identity of the
 * machine, or a developer's login. Its library is loaded when a token is first needed. Tokens are renewed by the SDK
 * before they expire.
 */

import type { AccessToken, GetTokenOptions, TokenCredential } from '@azure/identity';
import { timedOut } from './agents.ts';

/** @param timeoutMs - until a token is had: some of the ways to one have no limit of their own. */
export function newDefaultCredential(timeoutMs: number): TokenCredential {
  let loaded: Promise<TokenCredential> | undefined;
  return {
    async getToken(scopes: string | string[], options?: GetTokenOptions): Promise<AccessToken | null> {
      loaded ??= load();
      const token = loaded.then((credential) => credential.getToken(scopes, options));
      return await withLimit(token, timeoutMs);
    },
  };
}

async function load(): Promise<TokenCredential> {
  const { DefaultAzureCredential } = await import('@azure/identity');
  return new DefaultAzureCredential();
}

async function withLimit<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(timedOut(`no access token after ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}
