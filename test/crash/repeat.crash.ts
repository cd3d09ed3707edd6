/** One case: `CRASH_CASE=NAME npm run test:crash -- repeat`. `CRASH_TIMES` runs it more than once. */

import { describe, it } from 'vitest';
import { runCase } from './runner.ts';

const name = process.env['CRASH_CASE'];
const times = Number(process.env['CRASH_TIMES'] ?? 1);

describe.skipIf(name === undefined)('the case of CRASH_CASE', () => {
  for (let time = 1; time <= times; time++) {
    it(`${name}, time ${time}`, async () => {
      console.log(`struck: ${await runCase(name!)}`);
    });
  }
});
