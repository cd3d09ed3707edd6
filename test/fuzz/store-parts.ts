/** A server that gives what the fuzzer wants as pages of a list, and what a driver must make of it. */

import assert from 'node:assert/strict';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { printable } from '../../src/base/printable.ts';
import { messageOf } from '../../src/base/errors.ts';
import { isKey } from '../../src/storage/key.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { checkNatural, checkRefusal, textOf } from './target.ts';

/** Separates the pages of an input, the first of which is a status and a content type. */
const SEPARATOR = '\n===\n';
/** All that a driver may say of what a server answers. */
const CODES = ['not-found', 'permission', 'unavailable', 'timeout', 'unsupported', 'config', 'io'] as const;

/** Long: a machine that is busy is no server that is slow. */
export const PATIENT: { connectMs: number; idleMs: number } = { connectMs: 600_000, idleMs: 600_000 };

export class PageServer {
  #server: Server | undefined;
  #pages: readonly string[] = [];
  #head = { status: 200, type: '' };
  #store: ObjectStore | undefined;
  #requests = 0;
  readonly #open: (endpoint: string) => ObjectStore;
  readonly #type: string;

  /** @param type of the content, where the input gives none */
  constructor(type: string, open: (endpoint: string) => ObjectStore) {
    this.#type = type;
    this.#open = open;
  }

  async #opened(): Promise<ObjectStore> {
    if (this.#store) return this.#store;
    const server = createServer((message, response) => {
      message.resume();
      const page = this.#pages[this.#requests++];
      const { status, type } = this.#head;
      // Whoever asks for more is told that there is nothing.
      response.writeHead(page === undefined ? 404 : status, { 'content-type': type });
      response.end(page);
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    this.#server = server;
    const { port } = server.address() as AddressInfo;
    return (this.#store = this.#open(`http://127.0.0.1:${port}`));
  }

  /** Lists what `data` holds: the driver ends, with sane objects or an error of ours, and asks for no more than there is. */
  async check(data: Uint8Array): Promise<void> {
    const store = await this.#opened();
    const [head = '', ...pages] = textOf(data).split(SEPARATOR);
    const [, status = '200', type = ''] = /^([2-5]\d\d) ?([\w/+-]{0,40})/.exec(head) ?? [];
    this.#head = { status: Number(status), type: type === '' ? this.#type : type };
    this.#pages = pages;
    this.#requests = 0;
    try {
      const all = data.byteLength % 3 === 0 ? store.listPrefixes('a/') : store.list('a/');
      for await (const found of all) checkFound(found);
    } catch (error) {
      checkRefusal(error, CODES);
      assert.equal(printable(messageOf(error)), messageOf(error));
    }
    assert(this.#requests <= pages.length + 1, `${this.#requests} requests for ${pages.length} pages`);
  }

  async close(): Promise<void> {
    await this.#store?.close();
    this.#server?.closeAllConnections();
    this.#server?.close();
  }
}

type Found = string | { readonly key: string; readonly sizeBytes: number; readonly modifiedAt: Date };

function checkFound(found: Found): void {
  assert(isKey(typeof found === 'string' ? found : found.key), 'the key is none');
  if (typeof found === 'string') return;
  const { sizeBytes, modifiedAt } = found;
  checkNatural(sizeBytes, 'the size');
  assert(modifiedAt instanceof Date && !Number.isNaN(modifiedAt.getTime()), 'the time is none');
}

/** An input of the pages, with the status before them. */
export function pagesOf(head: string, ...pages: readonly string[]): Uint8Array {
  return Buffer.from([head, ...pages].join(SEPARATOR));
}

/** What means something in XML and in lists of objects. */
export const XML_WORDS: readonly string[] = [
  ...[
    '<',
    '>',
    '/>',
    '</',
    '&amp;',
    '&#0;',
    '&#x1f600;',
    '&lt;',
    '<![CDATA[',
    ']]>',
    '<!--',
    '-->',
    '<?xml version="1.0"?>',
  ],
  ...[
    '<!DOCTYPE a [<!ENTITY e "x">]>',
    '&e;',
    'xmlns="x"',
    'xsi:nil="true"',
    'true',
    'false',
    '-1',
    '1e999',
    'NaN',
    SEPARATOR,
  ],
  ...[
    'a/../b',
    '/a',
    'a//b',
    'a/b',
    '2024-01-01T00:00:00Z',
    'Mon, 01 Jan 2024 00:00:00 GMT',
    '__proto__',
    'constructor',
  ],
  ...['403 ', '500 ', '404 ', '200 text/html', '999999999999999999999'],
];
