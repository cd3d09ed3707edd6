/**
 * A proxy on loopback between a driver and its server that can be told to fail: for HTTP request by request, for
 * anything else (SFTP) connection by connection. Nothing is encrypted, nothing is rewritten: signatures stay valid.
 */

import { createServer as createHttpServer, request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingMessage, Server as HttpServer, ServerResponse } from 'node:http';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** How the proxy treats what comes while it is set. */
export type ProxyFault =
  | 'pass'
  /** Nobody listens; what was open is broken. */
  | 'dead'
  /** Breaks connections as soon as something comes. */
  | 'reset'
  /** Takes everything, passes on nothing, says nothing. */
  | 'stall'
  /** Breaks the connection (or, with stall, falls silent) after so many bytes from the server. For HTTP: bytes of a body. */
  | { readonly cutAfter: number; readonly stall?: boolean }
  /** HTTP only: breaks the connection after so many bytes of the request's body; the server gets no more than these. */
  | { readonly cutBodyAfter: number }
  /** HTTP only: answers this in the place of the server. */
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>> };

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A request that came by, with what decides on faults by kind. */
export interface ProxiedRequest {
  readonly method: string;
  readonly url: string;
}

export interface FaultProxy extends Address {
  /** Requests (HTTP) or connections that came so far. */
  readonly count: number;
  /** Bytes that servers have sent so far: over HTTP those of bodies. */
  readonly received: number;
  /** Called with each piece that comes from a client, before anything is decided: its bytes. */
  onSent: (sizeBytes: number) => void;
  /** HTTP: the fault of one request; what it gives while no other fault is set. */
  onRequest: (request: ProxiedRequest) => ProxyFault;
  /** Sets the fault of what comes from now on. Dead and reset also end what is under way, and so does all over TCP. */
  set(fault: ProxyFault): Promise<void>;
  close(): Promise<void>;
}

/** Starts a proxy to `server` on a port of the system's choice. */
export async function startFaultProxy(protocol: 'http' | 'tcp', server: Address): Promise<FaultProxy> {
  const proxy = protocol === 'http' ? new HttpFaultProxy(server) : new TcpFaultProxy(server);
  await proxy.open();
  return proxy;
}

abstract class Listening implements FaultProxy {
  readonly host = '127.0.0.1';
  port = 0;
  count = 0;
  received = 0;
  onSent: (sizeBytes: number) => void = () => undefined;
  onRequest: (request: ProxiedRequest) => ProxyFault = () => 'pass';
  protected readonly target: Address;
  protected fault: ProxyFault = 'pass';
  /** Both ends of everything that is open. */
  protected readonly sockets: Set<Socket> = new Set<Socket>();
  #server: Server | HttpServer | undefined;

  constructor(target: Address) {
    this.target = target;
  }

  protected abstract listener(): Server | HttpServer;

  /** Listens on the port that it had before, so that a server comes back where it was. */
  async open(): Promise<void> {
    const server = this.listener();
    server.on('connection', (socket: Socket) => this.watch(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, this.host, resolve);
    });
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  protected watch(socket: Socket): void {
    this.sockets.add(socket);
    // Answers of a few bytes, each held back until the one before is acknowledged, would take 40 ms each.
    socket.setNoDelay(true);
    // Broken connections are what this is for.
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
  }

  async set(fault: ProxyFault): Promise<void> {
    this.fault = fault;
    if (fault === 'dead') await this.close();
    else if (this.#server === undefined) await this.open();
    if (fault === 'reset') this.#breakAll();
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    this.#breakAll();
    await closed;
  }

  #breakAll(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }
}

/** Decides when each request comes; a request under way is only touched by faults that end connections. */
class HttpFaultProxy extends Listening {
  protected listener(): HttpServer {
    return createHttpServer((message, response) => this.#serve(message, response));
  }

  #serve(message: IncomingMessage, response: ServerResponse): void {
    this.count++;
    const { method = 'GET', url = '/' } = message;
    const fault = this.fault === 'pass' ? this.onRequest({ method, url }) : this.fault;
    message.on('data', (chunk: Buffer) => this.onSent(chunk.length));
    if (fault === 'stall') {
      message.resume();
    } else if (fault === 'dead' || fault === 'reset') {
      message.socket.resetAndDestroy();
    } else if (typeof fault === 'object' && 'status' in fault) {
      // Answering before the body has come would break the connection under the client's hands.
      message.resume().on('end', () => {
        response.writeHead(fault.status, { 'content-length': 0, ...fault.headers }).end();
      });
    } else {
      this.#forward(message, response, fault === 'pass' ? undefined : fault);
    }
  }

  #forward(
    message: IncomingMessage,
    response: ServerResponse,
    cut: Extract<ProxyFault, { cutAfter: number } | { cutBodyAfter: number }> | undefined,
  ): void {
    const { method, url } = message;
    const upstream = httpRequest(
      {
        ...this.target,
        method,
        path: url,
        headers: message.rawHeaders as never,
        setHost: false,
        agent: false,
      },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        response.flushHeaders();
        answer.on('data', (chunk: Buffer) => (this.received += chunk.length));
        if (cut === undefined || 'cutBodyAfter' in cut) {
          answer.on('error', () => response.destroy()).pipe(response);
        } else {
          this.#cut(answer, response, cut);
        }
      },
    );
    upstream.on('socket', (socket) => this.watch(socket));
    upstream.on('error', () => message.socket.resetAndDestroy());
    response.on('close', () => upstream.destroy());
    if (cut !== undefined && 'cutBodyAfter' in cut) cutBody(message, upstream, cut.cutBodyAfter);
    else message.pipe(upstream);
  }

  #cut(answer: IncomingMessage, response: ServerResponse, cut: { cutAfter: number; stall?: boolean }): void {
    let left = cut.cutAfter;
    answer.on('error', () => response.destroy());
    const onData = (chunk: Buffer): void => {
      const part = chunk.subarray(0, left);
      left -= part.length;
      if (left > 0) {
        response.write(part);
        return;
      }
      answer.off('data', onData).resume();
      response.write(part, () => {
        if (cut.stall !== true) response.destroy();
      });
    };
    answer.on('data', onData);
    answer.on('end', () => {
      if (left > 0) response.end();
    });
  }
}

/** Sends the first bytes of a body on; then both connections break, also when it has no more. */
function cutBody(message: IncomingMessage, upstream: ClientRequest, cutAfter: number): void {
  let left = cutAfter;
  const breakBoth = (): void => {
    // What was written arrives before the end.
    upstream.socket?.once('close', () => message.socket.resetAndDestroy()).destroySoon();
  };
  message.on('data', (chunk: Buffer) => {
    const part = chunk.subarray(0, left);
    if (part.length === 0) return;
    left -= part.length;
    upstream.write(part, () => {
      if (left === 0) breakBoth();
    });
  });
  message.on('end', breakBoth);
}

/** Bytes to and fro; the fault that is set decides on each chunk, so it also meets connections under way. */
class TcpFaultProxy extends Listening {
  /** Bytes that may still come from the server while a cut is set. */
  #left = Infinity;
  /** Receivers that were not given a byte: they get no later one either, for no network loses bytes in the middle. */
  readonly #silent = new WeakSet<Socket>();

  protected listener(): Server {
    return createServer((client) => this.#serve(client));
  }

  override async set(fault: ProxyFault): Promise<void> {
    if (typeof fault === 'object' && !('cutAfter' in fault)) {
      throw new Error('only HTTP has a status or a body');
    }
    this.#left = typeof fault === 'object' ? fault.cutAfter : Infinity;
    await super.set(fault);
  }

  #serve(client: Socket): void {
    this.count++;
    if (this.fault === 'reset') {
      client.resetAndDestroy();
      return;
    }
    const server = connect(this.target.port, this.target.host);
    this.watch(server);
    client.on('data', (chunk: Buffer) => {
      this.onSent(chunk.length);
      this.#pass(chunk, server, client);
    });
    server.on('data', (chunk: Buffer) => this.#passCounted(chunk, client, server));
    client.on('end', () => server.end());
    server.on('end', () => client.end());
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
  }

  #pass(chunk: Buffer, to: Socket, from: Socket): void {
    if (this.fault === 'stall' || this.#left <= 0) this.#silent.add(to);
    if (this.#silent.has(to) || to.write(chunk)) return;
    from.pause();
    to.once('drain', () => from.resume());
  }

  #passCounted(chunk: Buffer, client: Socket, server: Socket): void {
    const part = chunk.subarray(0, this.#left);
    this.received += part.length;
    this.#pass(part, client, server);
    this.#left -= part.length;
    if (part.length < chunk.length) this.#silent.add(client);
    if (this.#left > 0 || (typeof this.fault === 'object' && 'stall' in this.fault)) return;
    client.destroySoon();
  }
}
