/** A page of a listing as the JSON API gives it. */

import { property } from '../http-failure.ts';

export interface Page {
  readonly items: readonly {
    readonly name: string;
    readonly size: unknown;
    readonly timeCreated: unknown;
  }[];
  readonly prefixes: readonly string[];
  readonly nextPageToken: string | undefined;
}

/** Undefined for what is no page: another server may answer in JSON, too. */
export function parsePage(answer: unknown): Page | undefined {
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer)) return undefined;
  const [items = [], prefixes = []] = [property(answer, 'items'), property(answer, 'prefixes')];
  const token = property(answer, 'nextPageToken');
  if (!Array.isArray(items) || !Array.isArray(prefixes)) return undefined;
  if (token !== undefined && typeof token !== 'string') return undefined;
  const named = items.flatMap((item: unknown) => {
    const name = property(item, 'name');
    const [size = 0, timeCreated] = [property(item, 'size'), property(item, 'timeCreated')];
    return typeof name === 'string' ? [{ name, size, timeCreated }] : [];
  });
  const isPage = named.length === items.length && prefixes.every((prefix) => typeof prefix === 'string');
  return isPage ? { items: named, prefixes, nextPageToken: token } : undefined;
}
