/** What the page asks of its server. */

import { CSRF_HEADER } from '../view/csrf-header.ts';
import type { Live, Slow } from '../view/overview.ts';

const RETRY_MS = 5000;

/** @throws Error with the server's words */
export async function post<T>(name: string, body: object, signal?: AbortSignal): Promise<T> {
  const token = document.querySelector('meta[name="litestream-token"]')?.getAttribute('content') ?? '';
  const response = await fetch(`api/${name}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', [CSRF_HEADER]: token },
    body: JSON.stringify(body),
    ...(signal ? { signal } : {}),
  });
  const answer = (await response.json().catch(() => ({}))) as T & { error?: { message: string } };
  if (response.ok) return answer;
  throw new Error(answer.error?.message ?? `the server answers ${response.status}`);
}

export interface Listener {
  live(data: Live): void;
  slow(data: Slow): void;
  lost(): void;
}

/** Hears of changes until the page is left. */
export function listen(to: Listener): void {
  const events = new EventSource('events');
  events.addEventListener('live', ({ data }: MessageEvent<string>) => to.live(JSON.parse(data) as Live));
  events.addEventListener('slow', ({ data }: MessageEvent<string>) => to.slow(JSON.parse(data) as Slow));
  events.addEventListener('error', () => {
    to.lost();
    // After an answer that is none, such as that of a proxy, the browser does not try again by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => listen(to), RETRY_MS);
  });
}
