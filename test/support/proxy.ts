/**
 * What stands between a store's client and its server: TLS with a certificate for `*.example.test`, and a proxy that
 * alone knows where such hosts are. Both on loopback.
 */

import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo, Server as NetServer, Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { fileURLToPath } from 'node:url';

/** A certificate that signs itself, valid from 2020 to 2125, whatever a machine's clock says; its key is no secret. */
export const CERTIFICATE: string = fileURLToPath(new URL('./tls/certificate.pem', import.meta.url));
const KEY = fileURLToPath(new URL('./tls/key.pem', import.meta.url));

/** A running server on loopback. */
export interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

/** TLS in front of a server that has none. */
export async function startTls(target: { readonly port: number }): Promise<Listener> {
  const server = createTlsServer({ cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) }, (secured) =>
    join(secured, connect(target.port, '127.0.0.1')),
  );
  return await listening(server);
}

export interface ConnectProxy extends Listener {
  /** `CONNECT host:port` and `GET http://host/path`, in the order in which they came. */
  readonly requests: readonly string[];
  /** The Proxy-Authorization of each. */
  readonly logins: readonly (string | undefined)[];
  /** The answer to every request, if it is refused. */
  refusal: number | undefined;
}

/** A proxy that leads to `targets`, by host. */
export async function startProxy(targets: Readonly<Record<string, { port: number }>>): Promise<ConnectProxy> {
  const requests: string[] = [];
  const logins: (string | undefined)[] = [];
  const server = createHttpServer();
  const portOf = (request: IncomingMessage, host: string): number | undefined => {
    requests.push(`${request.method} ${request.url}`);
    logins.push(request.headers['proxy-authorization']);
    return targets[host]?.port;
  };
  server.on('connect', (request, socket: Socket) => {
    const port = portOf(request, (request.url ?? '').replace(/:\d+$/, ''));
    const status = proxy.refusal ?? (port === undefined ? 502 : 200);
    socket.write(`HTTP/1.1 ${status} Whatever\r\n\r\n`);
    if (status === 200) join(socket, connect(port!, '127.0.0.1'));
    else socket.end();
  });
  server.on('request', (request, response) => {
    const port = portOf(request, URL.canParse(request.url ?? '') ? new URL(request.url ?? '').hostname : '');
    const status = proxy.refusal ?? (port === undefined ? 502 : undefined);
    if (status === undefined) forward(request, response, port!);
    else request.resume().on('end', () => response.writeHead(status).end());
  });
  const proxy = { ...(await listening(server)), requests, logins, refusal: undefined as number | undefined };
  return proxy;
}

function forward(request: IncomingMessage, response: ServerResponse, port: number): void {
  const { pathname, search } = new URL(request.url ?? '');
  const { method, rawHeaders } = request;
  const place = { host: '127.0.0.1', port, path: `${pathname}${search}` };
  const upstream = httpRequest(
    { ...place, method, headers: rawHeaders as never, setHost: false, agent: false },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(response);
    },
  );
  upstream.on('error', () => response.destroy());
  request.pipe(upstream);
}

function join(one: Socket, other: Socket): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    // Whoever reads hears of it from the other side.
    from.on('error', () => to.destroy());
    from.on('close', () => to.destroy());
    from.pipe(to);
  }
}

async function listening(server: Server | NetServer): Promise<Listener> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
