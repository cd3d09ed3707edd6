/** Connections that end by themselves: the SDK has no limits of its own for one that is not made or falls silent. */

import type http from 'node:http';
import { Socket } from 'node:net';
import { newProxyAgents } from '../proxy-agents.ts';
import type { ProxyAgents } from '../proxy-agents.ts';

/** How long the parts of a request may take. */
export interface AbsTimeouts {
  /** Until a connection is made, TLS included. */
  readonly connectMs: number;
  /** Without any byte moving, or until an access token is had. */
  readonly idleMs: number;
}

/**
 * Agents that keep connections alive and break those that exceed `timeouts`, with ETIMEDOUT. Each request must bring
 * `idleMs` as its `timeout`: a connection that was idle has had another limit since, the server's.
 */
export function newAgents(timeouts: AbsTimeouts): ProxyAgents {
  const agents = newProxyAgents(timeouts);
  return {
    http: limited(agents.http, 'connect', timeouts),
    https: limited(agents.https, 'secureConnect', timeouts),
  };
}

function limited<T extends http.Agent>(agent: T, connected: string, timeouts: AbsTimeouts): T {
  const connect = agent.createConnection.bind(agent);
  const limitSocket = (socket: unknown): void => {
    if (socket instanceof Socket) limit(socket, connected, timeouts);
  };
  agent.createConnection = (options, callback) => {
    const socket = connect(options, (error, late) => {
      limitSocket(late);
      callback?.(error, late);
    });
    limitSocket(socket);
    return socket;
  };
  return agent;
}

function limit(socket: Socket, connected: string, { connectMs }: AbsTimeouts): void {
  const timer = setTimeout(() => socket.destroy(timedOut(`no connection after ${connectMs} ms`)), connectMs);
  const stop = (): void => clearTimeout(timer);
  socket.once(connected, stop).once('close', stop);
  socket.on('timeout', () => socket.destroy(timedOut(`nothing moved for ${socket.timeout ?? 0} ms`)));
}

/** An error as Node's own for a connection that takes too long. */
export function timedOut(message: string): Error {
  return Object.assign(new Error(message), { code: 'ETIMEDOUT' });
}
