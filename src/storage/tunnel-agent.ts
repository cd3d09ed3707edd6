/** HTTPS connections through the proxy that the environment names, as Go's programs make them. */

import http from 'node:http';
import https from 'node:https';
import type { RequestOptions } from 'node:https';
import type { Socket } from 'node:net';
import tls from 'node:tls';
import { LitestreamError } from '../base/errors.ts';

type Env = Readonly<Record<string, string | undefined>>;

/**
 * The proxy for `host`: HTTPS_PROXY or ALL_PROXY, in either case; none for this machine, or where NO_PROXY (names, `.domain`s
 * or `*`, separated by commas) says so.
 * @throws LitestreamError 'config' when it is not a URL of http or https
 */
export function proxyFor(host: string, env: Env): URL | undefined {
  const read = (name: string): string => env[name] ?? env[name.toLowerCase()] ?? '';
  const text = read('HTTPS_PROXY') || read('ALL_PROXY');
  if (text === '' || /^(localhost|127\..*|::1|\[::1\])$/.test(host)) return undefined;
  const exceptions = read('NO_PROXY').split(/[\s,]+/);
  if (exceptions.some((name) => name !== '' && isWithin(host, name))) return undefined;
  const url = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    // The text may hold a password.
    throw new LitestreamError('config', 'the proxy is not an http or https url: check HTTPS_PROXY');
  }
  return new URL(url);
}

function isWithin(host: string, name: string): boolean {
  const domain = name.replace(/^\*?\./, '').toLowerCase();
  return name === '*' || host === domain || host.endsWith(`.${domain}`);
}

/** @param connectMs for the connection to the proxy and its answer */
export function newTunnelAgent(connectMs: number): https.Agent {
  const agent = new https.Agent({ keepAlive: true });
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options: RequestOptions, callback) => {
    const host = options.host ?? 'localhost';
    const proxy = proxyFor(host, process.env);
    if (proxy === undefined) return connect(options, callback);
    openTunnel(proxy, { host, port: Number(options.port ?? 443), connectMs }).then(
      (socket) => {
        const secured = tls.connect({ ...(options as tls.ConnectionOptions), socket, servername: host });
        callback?.(null, secured);
      },
      (error: unknown) => callback?.(error as Error, undefined as never),
    );
    return undefined;
  };
  return agent;
}

function openTunnel(
  proxy: URL,
  { host, port, connectMs }: { readonly host: string; readonly port: number; readonly connectMs: number },
): Promise<Socket> {
  const { protocol, hostname, username, password } = proxy;
  const login = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString(
    'base64',
  );
  const target = `${host}:${port}`;
  return new Promise((resolve, reject) => {
    const fail = (what: string): void => {
      request.destroy();
      reject(Object.assign(new Error(`the proxy ${proxy.host} ${what}`), { code: 'ECONNREFUSED' }));
    };
    const request = (protocol === 'https:' ? https : http).request({
      ...{
        host: hostname,
        port: proxy.port === '' ? undefined : proxy.port,
        method: 'CONNECT',
        path: target,
      },
      headers: { host: target, ...(username === '' ? {} : { 'proxy-authorization': `Basic ${login}` }) },
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
