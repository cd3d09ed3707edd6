/** Who is at the other end of a request's connection. No header says so: whoever sends it writes them. */

const PEERS = new WeakMap<Request, string>();

/** @param address as Node.js gives it; undefined: not known */
export function setPeer(request: Request, address: string | undefined): void {
  if (address !== undefined) PEERS.set(request, address);
}

/** For a request that is made of another one. */
export function copyPeer(from: Request, to: Request): void {
  setPeer(to, PEERS.get(from));
}

/** The address, or for IPv6 the network that one customer of a provider has; empty where it is not known. */
export function peerOf(request: Request): string {
  const address = (PEERS.get(request) ?? '').replace(/^::ffff:(?=\d+\.)/i, '');
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  if (tail !== undefined) groups.push(...Array<string>(8 - groups.length - after.length).fill('0'), ...after);
  return groups.slice(0, 4).join(':');
}
