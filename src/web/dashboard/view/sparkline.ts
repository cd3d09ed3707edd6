/** The last hour of a number, as small as a word. */

import { type Html, html } from './html.ts';

const HEIGHT = 24;

/**
 * @param floor a line that never rises above it is drawn flat: small numbers are no mountains
 * @param label what it shows, for screen readers
 */
export function sparkline(values: readonly (number | null)[], floor: number, label: string): Html {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return html`<span class="spark empty" aria-hidden="true"></span>`;
  const top = Math.max(floor, ...known);
  const width = Math.max(1, values.length - 1);
  const y = (value: number): string => (HEIGHT - 1.5 - (value / top) * (HEIGHT - 4)).toFixed(1);
  const runs: string[] = [];
  let run: string[] = [];
  for (const [i, value] of [...values, null].entries()) {
    if (value !== null) run.push(`${i} ${y(value)}`);
    else if (run.length > 0) {
      // A single bucket is a dot, not nothing.
      runs.push(`M${(run.length === 1 ? [...run, run[0] ?? ''] : run).join('L')}`);
      run = [];
    }
  }
  return html`<svg
    class="spark"
    viewBox="0 0 ${width} ${HEIGHT}"
    preserveAspectRatio="none"
    role="img"
    aria-label="${label}"
  >
    <path class="base" d="M0 ${HEIGHT - 1}H${width}" vector-effect="non-scaling-stroke"></path>
    <path d="${runs.join('')}" vector-effect="non-scaling-stroke"></path>
  </svg>`;
}
