/** Addresses to listen on, in Go's syntax: `:9090` (all interfaces), `127.0.0.1:9090`, `[::1]:9090`. */

import { LitestreamError } from '../base/errors.ts';
import { quoteGo } from '../base/logger.ts';

export interface BindAddress {
  /** As it was written. */
  readonly text: string;
  /** Without brackets; empty for all interfaces. */
  readonly host: string;
  readonly port: number;
}

/**
 * Parses an address; the host is not looked up.
 * @throws LitestreamError 'config', with v0.3.13's text when there is no port
 */
export function parseBindAddress(text: string): BindAddress {
  const match = /^(?:\[([^\][]*)\]|([^:\][]*)):([^:]+)$/.exec(text);
  const port = match?.[3];
  if (port === undefined) {
    throw new LitestreamError('config', `must specify port for bind address: ${quoteGo(text)}`);
  }
  if (!/^\d+$/.test(port) || Number(port) > 65535) {
    throw new LitestreamError('config', `invalid port for bind address: ${quoteGo(text)} (0 to 65535)`);
  }
  return { text, host: match?.[1] ?? match?.[2] ?? '', port: Number(port) };
}

/** `host:port` for a URL that reaches it from this machine. */
export function reachableHost(host: string, port: number): string {
  if (host === '') return `localhost:${port}`;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only this machine reaches it. Brackets of an IPv6 address may be there or not. */
export function isLoopback(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, '').toLowerCase();
  return (
    plain === 'localhost' ||
    plain.endsWith('.localhost') ||
    plain === '::1' ||
    /^127(\.\d{1,3}){3}$/.test(plain)
  );
}
