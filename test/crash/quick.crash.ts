/** Some cases of each group: minutes. `CRASH_SAMPLE` sets how many, `CRASH_SEED` which, `CRASH_GROUPS` of what names. */

import { describe, it } from 'vitest';
import { GROUPS } from './groups.ts';
import { SEED, expectNone, listWanted, runCases } from './runner.ts';
import { UNSUPPORTED } from './shim.ts';

const sample = Number(process.env['CRASH_SAMPLE'] ?? 16);
const wanted = process.env['CRASH_GROUPS']?.split(',') ?? [''];
/** The first failure is enough. */
const bail = process.env['CRASH_BAIL'] !== undefined;
const skipped = UNSUPPORTED ?? (process.env['CRASH_CASE'] !== undefined ? 'one case is wanted' : undefined);

describe.skipIf(skipped !== undefined)(
  `some crashes of each kind, CRASH_SEED=${SEED} ${skipped ?? ''}`,
  () => {
    for (const group of GROUPS) {
      const parts = wanted.filter((part) => group.name.startsWith(part) || part.startsWith(`${group.name}/`));
      if (parts.length === 0) continue;
      it(group.name, async () =>
        expectNone(await runCases(await listWanted(group, parts, sample), { bail })),
      );
    }
  },
);
