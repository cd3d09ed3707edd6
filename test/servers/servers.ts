/** The real servers that the tests of this folder use, and how a test file gets at them. */

import { describe, inject, it } from 'vitest';
import type { AzureEndpoint } from './azurite.ts';
import type { GcsEndpoint } from './gcs.ts';
import type { SftpEndpoint } from './sshd.ts';
import type { S3Endpoint } from './swift/swift.ts';

/** What the tests must know of each server. */
export interface Servers {
  readonly swift: S3Endpoint;
  readonly azurite: AzureEndpoint;
  readonly gcs: GcsEndpoint;
  readonly sshd: SftpEndpoint;
}

/** A server that runs, or why it does not. */
export type Availability<E> = { readonly endpoint: E } | { readonly unavailable: string };

declare module 'vitest' {
  export interface ProvidedContext {
    swift: Availability<S3Endpoint>;
    azurite: Availability<AzureEndpoint>;
    gcs: Availability<GcsEndpoint>;
    sshd: Availability<SftpEndpoint>;
  }
}

/**
 * Defines tests that need the server `name`. Without it they are skipped and say why; in CI that is a failure, so that
 * nothing is taken for tested that was not.
 */
export function describeServer<K extends keyof Servers>(
  name: K,
  define: (endpoint: Servers[K]) => void,
): void {
  const given = inject(name) as Availability<Servers[K]>;
  if ('endpoint' in given) {
    describe(name, () => define(given.endpoint));
    return;
  }
  const fail = (): void => {
    throw new Error(`no ${name}: ${given.unavailable}`);
  };
  it.skipIf(process.env['CI'] === undefined)(`needs ${name}, which is not there: ${given.unavailable}`, fail);
}
