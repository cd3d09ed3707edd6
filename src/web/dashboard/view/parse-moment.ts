/** A moment as people type it: `now`, `10m ago`, `2h30m ago`, ISO 8601, or local time. */

const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const AGO = /^((?:\d+(?:\.\d+)?\s*(?:s|m|min|h|d|w|days?|hours?|minutes?|seconds?|weeks?)\s*)+)ago$/;

/** The first moment that a Date can hold. */
const FIRST_MS = -8.64e15;

/** Epoch milliseconds; undefined for what is no moment. Without a zone it is the viewer's. */
export function parseMoment(text: string, nowMs: number): number | undefined {
  const plain = text.trim().toLowerCase();
  if (plain === '' || plain === 'now' || plain === 'latest') return nowMs;
  const before = AGO.exec(plain)?.[1];
  if (before !== undefined) {
    let ms = 0;
    for (const [, count, unit] of before.matchAll(/(\d+(?:\.\d+)?)\s*([a-z])/g)) {
      ms += Number(count) * (UNIT_MS[unit ?? ''] ?? 0);
    }
    return nowMs - ms >= FIRST_MS ? nowMs - ms : undefined;
  }
  if (!/^\d{4}-\d\d-\d\d([t ]\d\d:\d\d(:\d\d(\.\d+)?)?\s*(z|[+-]\d\d:\d\d)?)?$/.test(plain)) return undefined;
  // A date alone would be read as UTC.
  const full = plain.length === 10 ? `${plain}t00:00` : plain;
  const ms = Date.parse(full.replace(' ', 'T').replaceAll(' ', '').toUpperCase());
  return Number.isNaN(ms) ? undefined : ms;
}
