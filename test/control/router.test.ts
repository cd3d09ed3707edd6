/** How failures become statuses. */

import { expect, it } from 'vitest';
import { type ErrorCode, LitestreamError } from '../../src/base/errors.ts';
import { answer } from '../../src/control/router.ts';

it.each<[ErrorCode, number]>([
  ['usage', 400],
  ['not-found', 404],
  ['no-backup', 404],
  ['exists', 409],
  ['busy', 409],
  ['io', 500],
])('what fails with %s is answered with %i', async (code, status) => {
  const handle = (): never => {
    throw new LitestreamError(code, 'why');
  };
  const request = { body: {}, signal: AbortSignal.timeout(1000) };
  const answered = await answer([{ method: 'GET', path: '/x', handle }], 'GET', '/x', request);
  expect(answered).toEqual({ status, body: { error: { code, message: 'why' } } });
});
