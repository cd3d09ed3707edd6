/** Which proxy the environment names for a connection, by the rules that Go's programs go by. */

import { BlockList, isIP } from 'node:net';
import { LitestreamError } from '../base/errors.ts';

/** Where a request goes to. */
export interface ProxyTarget {
  readonly protocol: 'http:' | 'https:';
  /** A name or an address, IPv6 with or without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * The proxy for `target`: HTTPS_PROXY or HTTP_PROXY by its protocol, else ALL_PROXY, in either case of letters; none for
 * this machine, or where NO_PROXY (names, which stand for their subdomains too, `.domain`s, addresses, networks as
 * `10.0.0.0/8`, each with `:port` if for one port only, or `*`; separated by commas) says so.
 * @throws LitestreamError 'config' when it is not a URL of http or https
 */
export function proxyFor(
  { protocol, host, port }: ProxyTarget,
  env: Readonly<Record<string, string | undefined>>,
): URL | undefined {
  const read = (name: string): string => env[name] ?? env[name.toLowerCase()] ?? '';
  const name = protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const text = read(name) || read('ALL_PROXY');
  const bare = withoutBrackets(host.toLowerCase());
  if (text === '' || /^(localhost|127\..*|::1)$/.test(bare)) return undefined;
  const exceptions = read('NO_PROXY')
    .toLowerCase()
    .split(/[\s,]+/);
  if (exceptions.some((exception) => isWithin(bare, port, exception))) return undefined;
  const url = text.includes('://') ? text : `http://${text}`;
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    // The text may hold a password.
    throw new LitestreamError('config', `the proxy is not an http or https url: check ${name}`);
  }
  return new URL(url);
}

function isWithin(host: string, port: number, exception: string): boolean {
  if (exception === '' || exception === '*') return exception === '*';
  const [, name = exception, onlyPort] = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(exception) ?? [];
  if (onlyPort !== undefined && Number(onlyPort) !== port) return false;
  const place = withoutBrackets(name);
  if (isIP(host) !== 0) return place.includes('/') ? isInNetwork(host, place) : host === place;
  const domain = place.replace(/^\*?\./, '');
  return host === domain || host.endsWith(`.${domain}`);
}

function isInNetwork(address: string, network: string): boolean {
  const [, base = '', bits = ''] = /^(.*)\/(\d+)$/.exec(network) ?? [];
  const family = isIP(base);
  if (family === 0 || family !== isIP(address) || Number(bits) > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const block = new BlockList();
  block.addSubnet(base, Number(bits), type);
  return block.check(address, type);
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

/** Where to connect to for a proxy. */
export function proxyAddress({ protocol, hostname, port }: URL): { host: string; port: number } {
  const known = protocol === 'https:' ? 443 : 80;
  return { host: withoutBrackets(hostname), port: port === '' ? known : Number(port) };
}
