/** The progress line of `restore` on a terminal: bytes, segments, rate and time left, overwritten in place. */

import { formatBytes } from '../base/byte-size.ts';
import type { Logger } from '../base/logger.ts';
import { printable } from '../base/printable.ts';
import type { RestoreProgress } from '../engine/restore.ts';

const REDRAW_MS = 100;
const DEFAULT_COLUMNS = 80;
/** Back to the first column, and clear to the end of the line. */
const CLEAR = '\r\u001b[K';

export interface ProgressTerminal {
  /** Its width; 0 when it does not say. */
  readonly columns: number;
  write(text: string): void;
}

export class ProgressLine {
  readonly #terminal: ProgressTerminal;
  readonly #now: () => number;
  readonly #startedAt: number;
  #drawnAt = -Infinity;
  #last: RestoreProgress | undefined;
  #shown = false;

  /** @param now a clock in milliseconds */
  constructor(terminal: ProgressTerminal, now: () => number = () => performance.now()) {
    this.#terminal = terminal;
    this.#now = now;
    this.#startedAt = now();
  }

  /** Redraws, but not more often than each 100 ms. */
  update(progress: RestoreProgress): void {
    this.#last = progress;
    const now = this.#now();
    if (now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    const line = formatProgress(progress, now - this.#startedAt);
    const { columns } = this.#terminal;
    this.#terminal.write(CLEAR + line.slice(0, (columns > 0 ? columns : DEFAULT_COLUMNS) - 1));
    this.#shown = true;
  }

  /** Takes the line away, so that something else can be printed. The next update draws it again. */
  clear(): void {
    if (this.#shown) this.#terminal.write(CLEAR);
    this.#shown = false;
    this.#drawnAt = -Infinity;
  }

  /** Replaces the line by a last one that stays. */
  finish(outputPath: string): void {
    this.clear();
    const seconds = (this.#now() - this.#startedAt) / 1000;
    const { bytesDone = 0, segmentsDone = 0 } = this.#last ?? {};
    this.#terminal.write(
      `restored ${printable(outputPath)}: ${formatBytes(bytesDone)}, ${segmentsDone} segments in ${seconds.toFixed(1)}s\n`,
    );
  }

  /** `logger` without its informational lines, which the progress line stands for; others are put above it. */
  quiet(logger: Logger): Logger {
    return {
      debug: (message, attributes) => this.#above(() => logger.debug(message, attributes)),
      info: () => undefined,
      warn: (message, attributes) => this.#above(() => logger.warn(message, attributes)),
      error: (message, attributes) => this.#above(() => logger.error(message, attributes)),
      with: (attributes) => this.quiet(logger.with(attributes)),
    };
  }

  #above(print: () => void): void {
    this.clear();
    print();
  }
}

/** `restoring 12.5 MB of 64.0 MB (19%), segments 80/400, 31.2 MB/s, 2s left`; sizes are of compressed objects. */
export function formatProgress(progress: RestoreProgress, elapsedMs: number): string {
  const { bytesDone, bytesTotal, segmentsDone, segmentsTotal } = progress;
  const percent = bytesTotal === 0 ? 100 : Math.floor((bytesDone / bytesTotal) * 100);
  const rate = elapsedMs > 0 ? bytesDone / (elapsedMs / 1000) : 0;
  const parts = [
    `restoring ${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)} (${percent}%)`,
    `segments ${segmentsDone}/${segmentsTotal}`,
    `${formatBytes(rate)}/s`,
  ];
  if (rate > 0) parts.push(`${formatSeconds((bytesTotal - bytesDone) / rate)} left`);
  return parts.join(', ');
}

function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  const pad = (value: number): string => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${pad(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`;
}
