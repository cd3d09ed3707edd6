/** Names, keys, command lines, flags, and text of others for a terminal. */

import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { printable, printableLines } from '../../../src/base/printable.ts';
import { type FlagTable, parseFlags } from '../../../src/cmd/flags.ts';
import { splitShellWords } from '../../../src/cmd/shell-words.ts';
import {
  MAX_INDEX,
  parseSegmentName,
  parseShadowName,
  parseSnapshotName,
  segmentKey,
  segmentsPrefix,
  shadowName,
  snapshotKey,
  snapshotsPrefix,
} from '../../../src/format/names.ts';
import { checkFolderPrefix, checkKey, checkPrefix, isKey } from '../../../src/storage/key.ts';
import { type FuzzTarget, bytesOf, checkNatural, refusable, textOf } from '../target.ts';

const GENERATION = '0123456789abcdef';
const FLAGS: FlagTable = {
  o: { kind: 'string', help: '' },
  force: { kind: 'bool', help: '' },
  n: { kind: 'int', help: '' },
  index: { kind: 'index', help: '' },
};
/** Whatever a terminal obeys, and what breaks a line. */
const COMMANDS = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

function checkNames(text: string): void {
  const snapshot = parseSnapshotName(text);
  if (snapshot !== undefined) {
    assert.equal(snapshotKey(GENERATION, snapshot), snapshotsPrefix(GENERATION) + text);
  }
  const segment = parseSegmentName(text);
  if (segment !== undefined) {
    assert.equal(segmentKey(GENERATION, segment.index, segment.offset), segmentsPrefix(GENERATION) + text);
  }
  const shadow = parseShadowName(text);
  if (shadow !== undefined) assert.equal(shadowName(shadow), text);
}

/** What may be a key stays below whatever it is joined to. */
function checkKeys(text: string): void {
  for (const check of [checkKey, checkPrefix, checkFolderPrefix]) {
    const allowed = refusable(['unsupported'], () => {
      check(text);
      return true;
    });
    if (!allowed) continue;
    assert(!text.includes('\0'));
    const place = posix.join('/root/of/replica', text);
    assert(text === '' || place.startsWith('/root/of/replica/'), place);
    assert(!posix.isAbsolute(text), 'a key is relative');
    // The same name is another object in a file system and in a bucket if joining changes it.
    assert.equal(place, `/root/of/replica${text === '' ? '' : '/'}${text}`);
  }
  assert.equal(isKey(text), refusable(['unsupported'], () => (checkKey(text), true)) === true);
}

function checkPrintable(text: string): void {
  for (const shown of [printable(text), printableLines(text).replaceAll(/[\n\t]/g, '')]) {
    assert(!COMMANDS.test(shown), 'a control character gets through');
    assert(!/\p{Cs}/u.test(shown), 'half a character gets through');
  }
  assert.equal(printable(printable(text)), printable(text));
  if (!/[^\x20-\x7e]/.test(text)) assert.equal(printable(text), text);
}

function checkFlags(text: string): void {
  const args = text.split('\n');
  const parsed = refusable(['usage'], () => parseFlags(FLAGS, args));
  if (!parsed) return;
  const { n, index } = parsed.flags as { n?: number; index?: number };
  if (index !== undefined) checkNatural(index, '-index', MAX_INDEX);
  if (n !== undefined) assert(Number.isSafeInteger(n));
  assert(parsed.positionals.every((word) => args.includes(word)));
  assert.equal(Object.getPrototypeOf(parsed.flags), Object.prototype);
}

function checkWords(text: string): void {
  const split = refusable(['config'], () => splitShellWords(text));
  if (!split) return;
  assert(text.endsWith(split.ignored));
  // Every character of a word is one of the line: nothing is expanded.
  const words = split.words.join('');
  assert(words.length <= text.length);
  const quoted = split.words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  assert.deepEqual(splitShellWords(quoted).words, split.words);
}

export const target: FuzzTarget = {
  name: 'words',
  seeds: () =>
    bytesOf(
      ...['00000001.snapshot.lz4', '0000000a_00001038.wal.lz4', '00000001.wal', 'ffffffff_ffffffff.wal.lz4'],
      ...['generations/0123456789abcdef/snapshots/00000001.snapshot.lz4', 'a/../b', './a', '/etc/passwd'],
      ...[
        'a//b',
        '..',
        'a/..',
        'a\\..\\b',
        'caf\u00e9',
        '\u001b]0;owned\u0007',
        '\u202eabc\u2069',
        'a\tb\r\nc',
      ],
      ...[
        '-o\na\n--force=true\n-n=0x10\n--\n-index',
        '-index=ff\nx\n-force',
        '-n\n1_000',
        '-h',
        '---',
        '-=x',
      ],
      ...[`sh -c 'a "b" c' "d \\" e" f\\ g; rm`, 'a $(b c) `d e` > f', 'echo 2>&1 x', '"unclosed'],
    ),
  dictionary: [
    ...[
      '..',
      '/',
      './',
      '../',
      '\0',
      '.snapshot.lz4',
      '.wal.lz4',
      '.wal',
      '_',
      'ffffffff',
      '\u001b[2J',
      '\u0085',
    ],
    ...[
      '\ud83d\ude00',
      '\u202e',
      '-o',
      '--',
      '-index',
      '=',
      '\n',
      '__proto__',
      '-force',
      "'",
      '"',
      '\\',
      '$(',
      ')',
    ],
    ...['`', ';', '\ufeff', '%2e%2e', '%2f'],
  ],
  maxBytes: 1024,
  run(data) {
    // Also halves of characters, which are no UTF-8.
    for (const text of [textOf(data), Buffer.from(data).toString('utf16le')]) {
      checkNames(text);
      checkKeys(text);
      checkPrintable(text);
      checkFlags(text);
      checkWords(text);
    }
  },
};
