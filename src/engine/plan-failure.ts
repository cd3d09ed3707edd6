/** Why there is no plan for a restore, and how positions are spelled in that. */

import type { ErrorCode } from '../base/errors.ts';
import { formatIndex } from '../format/names.ts';

export interface PlanFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

/** `00000010 (16)`: as names and -index have it, and as the tables print it. */
export function bothForms(index: number): string {
  return `${formatIndex(index)} (${index})`;
}
