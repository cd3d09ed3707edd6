/** Lists and errors of Google Cloud Storage, in JSON. */

import { openGcsStore } from '../../../src/storage/gcs/gcs-store.ts';
import { PATIENT, PageServer, XML_WORDS, pagesOf } from '../store-parts.ts';
import type { FuzzTarget } from '../target.ts';

const server = new PageServer('application/json', (endpoint) =>
  openGcsStore({ type: 'gcs', bucket: 'b', path: '', endpoint }, PATIENT),
);

function page(name: string, nextPageToken?: string): string {
  const items = [{ name, size: '12', timeCreated: '2024-01-01T00:00:00Z' }];
  return JSON.stringify({ items, prefixes: ['a/c/'], nextPageToken });
}

export const target: FuzzTarget = {
  name: 'gcs-list',
  seeds: () => [
    pagesOf('200', page('a/1', 't1'), page('a/2', 't2'), page('a/3')),
    pagesOf('200', page('a/1')),
    pagesOf('200', '{}'),
    pagesOf('200', '[]'),
    pagesOf('403', '{"error":{"code":403,"message":"no \\u001b[2J","errors":[{"reason":"forbidden"}]}}'),
    pagesOf('404 text/plain', 'Not Found'),
  ],
  dictionary: [
    ...XML_WORDS.filter((word) => !word.includes('<')),
    ...[
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      'null',
      '{}',
      '[]',
      '""',
      '[null]',
      '{"items":',
      '"items"',
      '"name"',
      '"size"',
    ],
    ...[
      '"timeCreated"',
      '"prefixes"',
      '"nextPageToken"',
      '"error"',
      '"errors"',
      '"reason"',
      '"message"',
      '1.5',
      '-1',
    ],
    ...['\\u0000', '\\ud800', '"rateLimitExceeded"'],
  ],
  run: (data) => server.check(data),
  close: () => server.close(),
};
