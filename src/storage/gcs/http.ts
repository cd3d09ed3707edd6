/**
 * One HTTP request at a time limit of its own: connections are kept alive, a connection that cannot be made or falls
 * silent ends. Redirects are not followed, answers are not decoded, nothing is retried.
 */

import http from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { allowManyListeners } from '../../base/concurrency.ts';
import { newProxyAgents } from '../proxy-agents.ts';
import type { ProxyAgents } from '../proxy-agents.ts';

/** How long the parts of a request may take. */
export interface GcsTimeouts {
  /** Until a connection is made. */
  readonly connectMs: number;
  /** Without any byte moving, or until an access token is had. */
  readonly idleMs: number;
}

export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent one after the other, with their length in all as Content-Length. */
  readonly body?: readonly Uint8Array[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class HttpClient {
  readonly #timeouts: GcsTimeouts;
  readonly #agents: ProxyAgents;

  constructor(timeouts: GcsTimeouts) {
    this.#timeouts = timeouts;
    this.#agents = newProxyAgents(timeouts);
  }

  /**
   * Resolves with the head of the answer, whatever its status. Its body must be read to the end or destroyed.
   * Rejects with Node's own errors, ETIMEDOUT for our limits; so does the body.
   */
  send({ method, url, headers, body = [], signal }: HttpRequest): Promise<IncomingMessage> {
    allowManyListeners(signal);
    return new Promise((resolve, reject) => {
      const length = body.reduce((sum, piece) => sum + piece.length, 0);
      const options = {
        method,
        headers: method === 'GET' ? headers : { ...headers, 'content-length': String(length) },
        timeout: this.#timeouts.idleMs,
        ...(signal === undefined ? {} : { signal }),
      };
      const request =
        url.protocol === 'https:'
          ? https.request(url, { ...options, agent: this.#agents.https })
          : http.request(url, { ...options, agent: this.#agents.http });
      this.#limit(request);
      request.on('error', reject);
      request.on('response', resolve);
      for (const piece of body) request.write(piece);
      request.end();
    });
  }

  #limit(request: ClientRequest): void {
    const { connectMs, idleMs } = this.#timeouts;
    let response: IncomingMessage | undefined;
    request.on('response', (message) => {
      response = message;
    });
    request.on('socket', (socket) => {
      if (socket.connecting) limitConnecting(request, socket, connectMs);
    });
    request.on('timeout', () => {
      // Bytes that wait to be read: it is our reader who takes his time. The limit counts anew.
      if (response !== undefined && response.readableLength > 0) request.socket?.setTimeout(idleMs);
      else (response ?? request).destroy(timeoutError(`no byte moved for ${idleMs} ms`));
    });
  }

  /** Ends the connections, those in use too. */
  close(): void {
    this.#agents.http.destroy();
    this.#agents.https.destroy();
  }
}

function limitConnecting(request: ClientRequest, socket: Socket, connectMs: number): void {
  const error = timeoutError(`no connection within ${connectMs} ms`);
  const timer = setTimeout(() => request.destroy(error), connectMs);
  const stop = (): void => clearTimeout(timer);
  socket.once('encrypted' in socket ? 'secureConnect' : 'connect', stop);
  socket.once('close', stop);
}

function timeoutError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ETIMEDOUT' });
}
