/** Numbers and times in words, as the page shows them. Runs on the server and in the browser. */

import { type Html, html } from './html.ts';

const UNITS: readonly (readonly [string, number])[] = [
  ['day', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000],
];

/** `3 s`, `12 min`, `2 days`; a second unit where the first is small: `1 h 20 min`. */
export function durationWords(ms: number): string {
  if (ms < 1000) return ms < 1 ? '0 s' : '< 1 s';
  const at = UNITS.findIndex(([, size]) => ms >= size);
  const [unit, size] = UNITS[at] ?? ['s', 1000];
  const count = Math.floor(ms / size);
  const head = `${count} ${unit === 'day' && count > 1 ? 'days' : unit}`;
  const next = UNITS[at + 1];
  if (!next || count >= 3 || unit === 's') return head;
  const rest = Math.floor((ms - count * size) / next[1]);
  return rest === 0 ? head : `${head} ${rest} ${next[0]}`;
}

/** The largest unit alone: `2 days`. */
export function roughDuration(ms: number): string {
  return durationWords(ms).split(' ').slice(0, 2).join(' ');
}

/** `640 B`, `1.2 MB`: powers of 1000, as stores bill. */
export function byteWords(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power] ?? ''}`;
}

/** `1 234`, with narrow spaces; from ten thousand on `12.3 k`. */
export function countWords(count: number): string {
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} M`;
  if (count >= 1e4) return `${(count / 1e3).toFixed(1)} k`;
  return String(Math.round(count)).replace(/(\d)(?=(\d{3})+$)/g, '$1\u202f');
}

/** `1 snapshot`, `3 snapshots`. */
export function plural(count: number, word: string): string {
  return `${countWords(count)} ${word}${count === 1 ? '' : 's'}`;
}

export type Zone = 'utc' | 'local';

/** Seconds are noise where days are told apart. */
export type Precision = 'minute' | 'second';

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: Zone, precision: Precision): Intl.DateTimeFormat {
  const key = `${zone} ${precision}`;
  let format = formats.get(key);
  if (!format) {
    format = new Intl.DateTimeFormat('en', {
      month: 'short',
      day: 'numeric',
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23',
      ...(precision === 'second' ? { second: '2-digit' } : {}),
      ...(zone === 'utc' ? { timeZone: 'UTC' } : {}),
    });
    formats.set(key, format);
  }
  return format;
}

/** `Nov 21, 15:31:07`, in the viewer's zone or UTC, which is said. */
export function momentWords(ms: number, zone: Zone, precision: Precision = 'second'): string {
  const text = formatOf(zone, precision).format(ms);
  return zone === 'utc' ? `${text} UTC` : text;
}

/** A moment with UTC on hover. */
export function moment(iso: string, zone: Zone, precision: Precision = 'second'): Html {
  const words = momentWords(Date.parse(iso), zone, precision);
  return html`<time datetime="${iso}" title="${utcWords(iso)}">${words}</time>`;
}

/** How long ago, with the moment on hover. */
export function ago(iso: string, nowMs: number): Html {
  const words = durationWords(Math.max(0, nowMs - Date.parse(iso)));
  return html`<time datetime="${iso}" title="${utcWords(iso)}"
    >${words === '0 s' ? 'just now' : `${words} ago`}</time
  >`;
}

export function utcWords(iso: string): string {
  return new Date(iso)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' UTC');
}
