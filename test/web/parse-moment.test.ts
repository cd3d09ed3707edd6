/** Moments as people type them into the dashboard. */

import { expect, it } from 'vitest';
import { parseMoment } from '../../src/web/dashboard/view/parse-moment.ts';

const NOW_MS = Date.UTC(2026, 0, 15);

it.each([
  ['now', NOW_MS],
  ['2h30m ago', NOW_MS - 9_000_000],
  ['1.5 hours ago', NOW_MS - 5_400_000],
  ['2 weeks ago', NOW_MS - 1_209_600_000],
  ['2024-02-03T04:05:06Z', Date.UTC(2024, 1, 3, 4, 5, 6)],
  ['tomorrow', undefined],
  // Before the first moment that a Date can hold: it could not be shown.
  ['99999999999w ago', undefined],
])('%s', (text, ms) => {
  expect(parseMoment(text, NOW_MS)).toBe(ms);
});
