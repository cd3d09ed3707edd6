/**
 * Kept-alive connections of a store's client, through the proxy that the environment names where it names one, as Go's
 * programs make them: over TLS in a tunnel, else by asking the proxy for the whole URL.
 */

import http from 'node:http';
import type { ClientRequest } from 'node:http';
import https from 'node:https';
import type { RequestOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import type { Socket } from 'node:net';
import tls from 'node:tls';
import { LitestreamError } from '../base/errors.ts';
import { basicAuthorization } from '../base/basic-authorization.ts';
import { proxyAddress, proxyFor } from './proxy.ts';

export interface ProxyAgents {
  readonly http: http.Agent;
  readonly https: https.Agent;
}

export interface ProxyAgentOptions {
  /** For the connection to the proxy and its answer. */
  readonly connectMs: number;
  /** true: any certificate will do. */
  readonly skipVerify?: boolean;
}

/** Agents with as many connections as there are requests: how many of these there are is limited elsewhere. */
export function newProxyAgents({ connectMs, skipVerify = false }: ProxyAgentOptions): ProxyAgents {
  return { http: new PlainAgent({ keepAlive: true }), https: newTunnelAgent(connectMs, skipVerify) };
}

/** What http.Agent has and its types do not say: called with each request before anything of it is written. */
interface Requests {
  addRequest(request: ClientRequest, options: RequestOptions): void;
}

class PlainAgent extends http.Agent implements Requests {
  addRequest(request: ClientRequest, options: RequestOptions): void {
    const [host, port] = [options.host ?? 'localhost', Number(options.port ?? 80)];
    const proxy = proxyFor({ protocol: 'http:', host, port }, process.env);
    let connection = options;
    if (proxy?.protocol === 'https:') {
      throw new LitestreamError('config', `the proxy ${proxy.host} is not one for http: check HTTP_PROXY`);
    }
    if (proxy !== undefined) {
      const authorization = basicAuthorization(proxy);
      if (authorization !== undefined) request.setHeader('proxy-authorization', authorization);
      request.path = `http://${authority(host, port === 80 ? undefined : port)}${request.path}`;
      connection = { ...options, ...proxyAddress(proxy) };
    }
    (http.Agent.prototype as unknown as Requests).addRequest.call(this, request, connection);
  }
}

function newTunnelAgent(connectMs: number, skipVerify: boolean): https.Agent {
  const agent = new https.Agent({ keepAlive: true, ...(skipVerify ? { rejectUnauthorized: false } : {}) });
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options: RequestOptions, callback) => {
    const [host, port] = [options.host ?? 'localhost', Number(options.port ?? 443)];
    const fail = (error: unknown): void => callback?.(error as Error, undefined as never);
    let proxy: URL | undefined;
    try {
      proxy = proxyFor({ protocol: 'https:', host, port }, process.env);
    } catch (error) {
      fail(error);
      return undefined;
    }
    if (proxy === undefined) return connect(options, callback);
    openTunnel(proxy, authority(host, port), connectMs).then((socket) => {
      callback?.(null, tls.connect({ ...(options as tls.ConnectionOptions), socket }));
    }, fail);
    return undefined;
  };
  return agent;
}

function authority(host: string, port: number | undefined): string {
  const name = isIPv6(host) ? `[${host}]` : host;
  return port === undefined ? name : `${name}:${port}`;
}

function openTunnel(proxy: URL, target: string, connectMs: number): Promise<Socket> {
  const authorization = basicAuthorization(proxy);
  return new Promise((resolve, reject) => {
    const fail = (what: string): void => {
      request.destroy();
      reject(Object.assign(new Error(`the proxy ${proxy.host} ${what}`), { code: 'ECONNREFUSED' }));
    };
    const request = (proxy.protocol === 'https:' ? https : http).request({
      ...{ ...proxyAddress(proxy), method: 'CONNECT', path: target },
      headers: {
        host: target,
        ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }),
      },
      agent: false,
      timeout: connectMs,
    });
    request.on('connect', (response, socket: Socket) => {
      socket.setTimeout(0);
      if (response.statusCode === 200) {
        resolve(socket);
        return;
      }
      // It is no longer the request's.
      socket.destroy();
      fail(`refused the connection (${String(response.statusCode)})`);
    });
    request.on('response', (response) => fail(`refused the connection (${String(response.statusCode)})`));
    request.on('timeout', () => fail(`gave no connection within ${connectMs} ms`));
    request.on('error', reject);
    request.end();
  });
}
