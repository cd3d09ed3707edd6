/** Plain-text tables aligned as v0.3.13 does: columns left-aligned, two spaces apart, the last one not padded. */

import { greatestOf } from '../base/extremes.ts';
import { printable } from '../base/printable.ts';

const PADDING = 2;

/** Width as Go's tabwriter counts it: in code points. */
function width(cell: string): number {
  return Array.from(cell).length;
}

/**
 * Renders a header and rows of as many cells each, one line per row, each ended by a newline. The header is there
 * also without rows.
 */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows].map((line) => line.map(printable));
  const widths = header.map((_, column) => greatestOf(lines.map((line) => width(line[column] ?? ''))));
  const format = (line: readonly string[]): string =>
    line
      .map((cell, column) => {
        const last = column === line.length - 1;
        return last ? cell : cell + ' '.repeat((widths[column] ?? 0) + PADDING - width(cell));
      })
      .join('');
  return lines.map((line) => `${format(line)}\n`).join('');
}

/** A time as tables print it: RFC 3339 in UTC, whole seconds (rounded down). */
export function formatTime(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}
