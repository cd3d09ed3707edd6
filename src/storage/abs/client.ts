/**
 * Makes the SDK's client for a container: by account key, shared access signature or default credential, one attempt
 * a request, with limits of time. It must not know what is stored.
 */

import {
  AnonymousCredential,
  ContainerClient,
  StorageSharedKeyCredential,
  newPipeline,
} from '@azure/storage-blob';
import type { HttpOperationResponse, RequestPolicy, WebResource } from '@azure/storage-blob';
import type { TokenCredential } from '@azure/identity';
import { LitestreamError } from '../../base/errors.ts';
import { withoutCredentials } from '../../base/redact-url.ts';
import type { AbsStoreConfig } from '../store-config.ts';
import type { ProxyAgents } from '../proxy-agents.ts';
import { newAgents } from './agents.ts';
import type { AbsTimeouts } from './agents.ts';
import { newDefaultCredential } from './credential.ts';
import type { AbsTarget } from './errors.ts';
import { BoundedHttpClient } from './http-client.ts';

export const DEFAULT_TIMEOUTS: AbsTimeouts = { connectMs: 10_000, idleMs: 30_000 };

/** What messages say of the store. */
export function targetOf(config: AbsStoreConfig): AbsTarget {
  const { accountName, accountKey, sasToken } = config;
  return {
    container: config.bucket,
    account: accountName,
    endpoint: withoutCredentials(endpointOf(config)),
    credential:
      accountKey !== undefined ? 'account-key' : sasToken !== undefined ? 'sas-token' : 'default credential',
    // The signature is what makes a token one.
    secrets: [accountKey ?? '', sasToken ?? '', new URLSearchParams(sasToken).get('sig') ?? ''],
  };
}

function endpointOf({ endpoint, accountName }: AbsStoreConfig): string {
  return endpoint ?? `https://${accountName}.blob.core.windows.net`;
}

export interface Connection {
  readonly container: ContainerClient;
  close(): void;
}

/** A client for the container of `config`. It connects at the first request. Throws when the endpoint is no URL. */
export function connect(config: AbsStoreConfig, timeouts: AbsTimeouts): Connection {
  const { sasToken, accountKey } = config;
  const url = new URL(endpointOf(config));
  url.pathname = `${url.pathname.replace(/\/$/, '')}/${encodeURIComponent(config.bucket)}`;
  if (accountKey === undefined && sasToken !== undefined) url.search = sasToken;
  // Retries are ours: the decorator's, and each part's.
  const pipeline = newPipeline(credentialOf(config, url, timeouts), {
    retryOptions: { maxTries: 1 },
    httpClient: new BoundedHttpClient(),
    // Of the environment's proxies the SDK has rules of its own, and throws at what it cannot read: our agents know better.
    proxyOptions: { host: 'http://localhost', port: 80 },
  });
  const agents = newAgents(timeouts);
  pipeline.factories.push({ create: (next) => new TimedRequests(next, agents, timeouts) });
  return {
    container: new ContainerClient(url.href, pipeline),
    close: () => {
      agents.http.destroy();
      agents.https.destroy();
    },
  };
}

function credentialOf(
  config: AbsStoreConfig,
  url: URL,
  timeouts: AbsTimeouts,
): StorageSharedKeyCredential | AnonymousCredential | TokenCredential {
  const { accountName, accountKey, sasToken } = config;
  if (accountKey !== undefined) return new StorageSharedKeyCredential(accountName, accountKey);
  // The signature is in the URL.
  if (sasToken !== undefined) return new AnonymousCredential();
  if (url.protocol !== 'https:') {
    throw new LitestreamError(
      'config',
      `access tokens are only sent over https: set account-key or sas-token for container "${config.bucket}" at ${targetOf(config).endpoint}, or an endpoint with https`,
    );
  }
  return newDefaultCredential(timeouts.idleMs);
}

/** Gives each request a connection of ours, with limits, whatever the SDK makes of a proxy in the environment. */
class TimedRequests implements RequestPolicy {
  readonly #next: RequestPolicy;
  readonly #agents: ProxyAgents;
  readonly #timeouts: AbsTimeouts;

  constructor(next: RequestPolicy, agents: ProxyAgents, timeouts: AbsTimeouts) {
    this.#next = next;
    this.#agents = agents;
    this.#timeouts = timeouts;
  }

  sendRequest(request: WebResource): Promise<HttpOperationResponse> {
    const { protocol } = new URL(request.url);
    request.agent = protocol === 'http:' ? this.#agents.http : this.#agents.https;
    request.requestOverrides = { timeout: this.#timeouts.idleMs };
    return this.#next.sendRequest(request);
  }
}
