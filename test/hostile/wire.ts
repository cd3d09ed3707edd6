/** What only a wire can do: answers that are none, and lists without end. */

import { document, type Xml } from '../support/s3/xml.ts';
import type { Fault, S3Request } from '../support/s3-server.ts';
import type { Chance } from './chance.ts';

export interface Wire {
  readonly name: string;
  readonly answer: (request: S3Request) => Fault | undefined;
}

const XML = { 'content-type': 'application/xml' };

function isList({ operation }: S3Request): boolean {
  return operation.startsWith('ListObjects');
}

function onList(name: string, fault: (request: S3Request) => Fault): Wire {
  return { name, answer: (request) => (isList(request) ? fault(request) : undefined) };
}

function page(token: string, entries: readonly Xml[]): Fault {
  const body = document('ListBucketResult', [
    ['Name', 'bucket'],
    ['IsTruncated', true],
    ...entries,
    ['NextContinuationToken', token],
  ]);
  return { status: 200, headers: XML, body };
}

const WIRES: readonly ((chance: Chance) => Wire)[] = [
  () => onList('a token that repeats', () => page('again', [])),
  () => onList('empty pages without end', ({ number }) => page(`token${number}`, [])),
  () =>
    onList('the same page again and again', ({ number }) =>
      page(`token${number}`, [
        [
          'Contents',
          [
            ['Key', 'db/generations/x'],
            ['Size', 1],
          ],
        ],
      ]),
    ),
  () => onList('a page of a web server', () => ({ status: 200, body: '<html><body>hello</body></html>' })),
  () => onList('no XML', () => ({ status: 200, headers: XML, body: '\u0000\u001b]0;owned\u0007' })),
  () =>
    onList('a list of one very long text', () => ({
      status: 200,
      headers: XML,
      endless: () => Buffer.alloc(64 << 10, 'x'),
    })),
  () => onList('a redirect', () => ({ status: 307, headers: { location: 'http://127.0.0.1:9/elsewhere' } })),
  () => ({
    name: 'connections break',
    answer: ({ number }) => (number % 3 === 0 ? 'reset' : undefined),
  }),
  () => ({
    name: 'answers are lost',
    answer: ({ number }) => (number % 4 === 0 ? 'lose-answer' : undefined),
  }),
  () => ({
    name: 'gets answer with an error of status 200',
    answer: ({ operation }) =>
      operation === 'GetObject'
        ? { status: 200, headers: XML, body: '<Error><Code>x</Code></Error>' }
        : undefined,
  }),
];

export function chooseWire(chance: Chance): Wire {
  return chance.of(WIRES)(chance);
}
