/**
 * Makes the SDK's client for a container: by account key, shared access signature or default credential, one attempt
 * a request, with limits of time. It must not know what is stored.
 */

import { IncomingMessage } from 'node:http';
import {
  AnonymousCredential,
  ContainerClient,
  StorageSharedKeyCredential,
  newPipeline,
} from '@azure/storage-blob';
import type { HttpOperationResponse, RequestPolicy, WebResource } from '@azure/storage-blob';
import type { TokenCredential } from '@azure/identity';
import { LitestreamError } from '../../base/errors.ts';
import { withoutCredentials } from '../http-failure.ts';
import type { AbsStoreConfig } from '../store-config.ts';
import { newAgents, timedOut } from './agents.ts';
import type { AbsTimeouts, Agents } from './agents.ts';
import { newDefaultCredential } from './credential.ts';
import type { AbsTarget } from './errors.ts';

export const DEFAULT_TIMEOUTS: AbsTimeouts = { connectMs: 10_000, idleMs: 30_000 };

/**
 * For a request through a proxy, whose connections are not ours: until the answer begins, and until each piece of
 * its body.
 */
const PROXIED_TIMEOUT_MS = 300_000;

/** What messages say of the store. */
export function targetOf(config: AbsStoreConfig): AbsTarget {
  const { accountName, accountKey, sasToken } = config;
  return {
    container: config.bucket,
    account: accountName,
    endpoint: withoutCredentials(endpointOf(config)),
    credential:
      accountKey !== undefined ? 'account-key' : sasToken !== undefined ? 'sas-token' : 'default credential',
    secrets: [accountKey ?? '', sasToken ?? ''],
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
  const pipeline = newPipeline(credentialOf(config, url, timeouts), { retryOptions: { maxTries: 1 } });
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

/** Gives each request a connection with limits, or, where the environment names a proxy, the proxy's and a limit. */
class TimedRequests implements RequestPolicy {
  readonly #next: RequestPolicy;
  readonly #agents: Agents;
  readonly #timeouts: AbsTimeouts;

  constructor(next: RequestPolicy, agents: Agents, timeouts: AbsTimeouts) {
    this.#next = next;
    this.#agents = agents;
    this.#timeouts = timeouts;
  }

  async sendRequest(request: WebResource): Promise<HttpOperationResponse> {
    const { protocol, hostname } = new URL(request.url);
    if (request.agent !== undefined && !isLoopback(hostname)) return await this.#sendProxied(request);
    request.agent = protocol === 'http:' ? this.#agents.http : this.#agents.https;
    request.requestOverrides = { timeout: this.#timeouts.idleMs };
    return await this.#next.sendRequest(request);
  }

  async #sendProxied(request: WebResource): Promise<HttpOperationResponse> {
    request.timeout = PROXIED_TIMEOUT_MS;
    const response = await this.#next.sendRequest(request);
    const body = response.readableStreamBody;
    if (body instanceof IncomingMessage) {
      const late = timedOut(`nothing moved for ${PROXIED_TIMEOUT_MS} ms`);
      body.setTimeout(PROXIED_TIMEOUT_MS, () => body.destroy(late));
    }
    return response;
  }
}

/** This machine is never behind a proxy, whatever the environment says. */
function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
}
