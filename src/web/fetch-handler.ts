/** The one kind of handler that all adapters are made of, and what mounting it under a prefix means. */

import { copyPeer } from './peer-address.ts';

export type FetchHandler = (request: Request) => Promise<Response>;

/**
 * Answers a request whose path begins with `base`, as if the handler stood at the root. `base` itself is redirected to `base/`:
 * the addresses in pages are relative, so that they are right under every prefix and behind a proxy that cuts one.
 * @param base without a slash at its end; empty: the root
 */
export async function answerUnder(handler: FetchHandler, request: Request, base: string): Promise<Response> {
  if (base === '') return handler(request);
  const url = new URL(request.url);
  if (url.pathname === base) {
    const location = `./${base.slice(base.lastIndexOf('/') + 1)}/${url.search}`;
    return new Response(null, { status: 308, headers: { location } });
  }
  if (!url.pathname.startsWith(`${base}/`)) return new Response('There is nothing here.\n', { status: 404 });
  url.pathname = url.pathname.slice(base.length);
  const inner = new Request(url, request);
  copyPeer(request, inner);
  return handler(inner);
}

/** `/admin/litestream/` to `/admin/litestream`, `/` to nothing. */
export function trimBase(path: string): string {
  return path.replace(/\/+$/, '');
}

/** The beginning of the request's path up to `path`: an application may itself be under a prefix. */
export function baseOf(request: Request, path: string): string {
  const own = trimBase(path);
  const { pathname } = new URL(request.url);
  return pathname.slice(0, Math.max(0, pathname.indexOf(own))) + own;
}

/**
 * Whether a Host header names a host and nothing else. Whoever makes an address of another one gets another path than the application has
 * seen, and asked its login about.
 */
export function isHost(text: string): boolean {
  return /^(\[[\da-f:.]+\]|[\w.~-]+)(:\d{0,5})?$/i.test(text);
}

/** Whether an address is more than a path with a query, or one that URL would change: `/metrics/../api`, `/metrics\api`, `#`. */
export function isMisleading(address: string): boolean {
  const [path = ''] = address.split('?', 1);
  return (
    !path.startsWith('/') ||
    address.includes('#') ||
    path.includes('\\') ||
    /\/(\.|%2e){1,2}(\/|$)/i.test(path)
  );
}
