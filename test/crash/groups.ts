/** All groups of cases. */

import { CALLS } from './calls.ts';
import type { Group } from './case.ts';
import { CLOCKS } from './clocks.ts';
import { FILES } from './files.ts';
import { OBJECTS } from './objects.ts';
import { POWER } from './power.ts';
import { PROCESSES } from './processes.ts';
import { RESTORES } from './restores.ts';
import { STORES } from './stores.ts';

export const GROUPS: readonly Group[] = [
  ...CALLS,
  ...RESTORES,
  ...POWER,
  FILES,
  CLOCKS,
  PROCESSES,
  STORES,
  OBJECTS,
];
