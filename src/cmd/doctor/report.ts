/** What `doctor` finds: kept, and passed on as it is found. */

import { printable } from '../../base/printable.ts';
import { hasCode, messageOf } from '../../base/errors.ts';

/** `ok`: as it should be. `warning`: it works, but not as may be expected. `failure`: backups or restores will fail. */
export type Level = 'ok' | 'warning' | 'failure';

export interface Finding {
  readonly level: Level;
  /** What was looked at: the config file, a database, a replica. */
  readonly subject: string;
  /** What of it, in one or two words. */
  readonly check: string;
  /** What was found; of warnings and failures also what to change, unless `fix` says it. */
  readonly message: string;
  /** What to change; empty: nothing, or `message` says it. */
  readonly fix: string;
}

/** Where findings go as they are made. */
export interface ReportSink {
  readonly begin: (subject: string) => void;
  readonly add: (finding: Finding) => void;
}

export class Report {
  readonly #sink: ReportSink;
  readonly #findings: Finding[] = [];
  #subject = '';

  constructor(sink: ReportSink) {
    this.#sink = sink;
  }

  get findings(): readonly Finding[] {
    return this.#findings;
  }

  /** What the findings that follow are about. */
  begin(subject: string): void {
    this.#subject = subject;
    this.#sink.begin(subject);
  }

  ok(check: string, message: string): void {
    this.#add('ok', check, message, '');
  }

  warning(check: string, message: string, fix = ''): void {
    this.#add('warning', check, message, fix);
  }

  failure(check: string, message: string, fix = ''): void {
    this.#add('failure', check, message, fix);
  }

  /**
   * Runs a step that must succeed; gives undefined, and reports why, when it does not. Rejects only with 'aborted'.
   * @param explain - the words for what the step threw
   */
  async attempt<T>(
    check: string,
    step: () => Promise<T>,
    fix = '',
    explain: (error: unknown) => string = messageOf,
  ): Promise<T | undefined> {
    try {
      return await step();
    } catch (error) {
      if (hasCode(error, 'aborted')) throw error;
      this.failure(check, explain(error), fix);
      return undefined;
    }
  }

  get failed(): boolean {
    return this.#findings.some(({ level }) => level === 'failure');
  }

  /** One line with the number of findings of each level. */
  summary(): string {
    const count = (level: Level, noun: string): string => {
      const { length } = this.#findings.filter((finding) => finding.level === level);
      return `${length} ${noun}${length === 1 || noun === 'ok' ? '' : 's'}`;
    };
    return `${count('ok', 'ok')}, ${count('warning', 'warning')}, ${count('failure', 'failure')}\n`;
  }

  #add(level: Level, check: string, message: string, fix: string): void {
    const finding = { level, subject: this.#subject, check, message, fix };
    this.#findings.push(finding);
    this.#sink.add(finding);
  }
}

/** A finding in one line. */
export function formatFinding({ level, check, message, fix }: Finding): string {
  const advice = fix === '' ? '' : `: ${fix}`;
  return printable(`${level.padEnd(7)}  ${check}: ${message}${advice}`);
}
