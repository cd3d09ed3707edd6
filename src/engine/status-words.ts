/** What to do about what the status says: one place for the advice. */

import type { DatabaseProblemFacts } from './database-problem.ts';
import type { FailureStats } from './stats.ts';

export function databaseProblemText({ kind, message }: DatabaseProblemFacts): string {
  return kind === 'gone' ? `${message}; it was followed before` : message;
}

/** Undefined where waiting is all that is needed. */
export function problemRemedy(problem: DatabaseProblemFacts, metaPath: string): string | undefined {
  switch (problem.kind) {
    case 'missing':
      return undefined;
    case 'gone':
      return 'put a database there: replication takes it up by itself';
    case 'no-folder':
      return 'check that the volume is mounted, and that the path is right';
    case 'broken':
      return brokenRemedy(problem, metaPath);
  }
}

function brokenRemedy({ code }: DatabaseProblemFacts, metaPath: string): string {
  switch (code) {
    case 'permission':
      return 'let this process read and write the database, its folder and its meta directory';
    case 'disk-full':
      return `free space on the disk of ${metaPath}: replication goes on by itself`;
    case 'busy':
      return 'end the process that holds the database, or wait for it';
    default:
      return 'see the log; it is tried again by itself';
  }
}

export function failureRemedy({ activity, code }: FailureStats, location: string): string {
  if (activity === 'validation') return 'do not rely on this replica: see the log, and take a new generation';
  switch (code) {
    case 'permission':
      return `check the credentials and rights for ${location}`;
    case 'unavailable':
    case 'timeout':
    case 'not-found':
      return `check that ${location} is there and can be reached; it is tried again by itself`;
    case 'disk-full':
      return `free space for ${location}; it is tried again by itself`;
    default:
      return 'see the log; it is tried again by itself';
  }
}
