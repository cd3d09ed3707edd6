import { expect, test } from 'vitest';
import { printable, printableLines } from '../../src/base/printable.ts';
import { formatTable } from '../../src/cmd/table.ts';
import { redacted } from '../../src/storage/http-failure.ts';

const EVIL = 'a\u001b]0;owned\u0007\u001b[2J\r\n\tb\u009b1m\u202ec\ud800\u007f';
const SHOWN = 'a\\u001b]0;owned\\u0007\\u001b[2J\\r';

test('what commands a terminal is shown, not done', () => {
  expect(printable(EVIL)).toBe(`${SHOWN}\\n\\tb\\u009b1m\\u202ec\\ud800\\u007f`);
  expect(printableLines(EVIL)).toBe(`${SHOWN}\n\tb\\u009b1m\\u202ec\\ud800\\u007f`);
  const plain = 'Größe 数 🙂 "\\ ~';
  expect([printable(plain), printableLines(plain)]).toEqual([plain, plain]);
});

test('JSON says the same as before', () => {
  const text = JSON.stringify({ path: EVIL, plain: 'é' }, null, 2);
  expect(printableLines(text)).not.toMatch(/[\u007f\u009b\u202e]/);
  expect(JSON.parse(printableLines(text))).toEqual(JSON.parse(text));
});

test('a path in a table is one cell of one line', () => {
  expect(formatTable(['path', 'n'], [['/a\n/fake', '1']])).toBe('path       n\n/a\\n/fake  1\n');
});

test("a server's message holds neither commands nor a secret in the forms of URLs and headers", () => {
  const secret = 'a/b+c=d';
  const forms = [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')];
  expect(redacted(`no \u001b[2J ${forms.join(' ')}`, [secret])).toMatch(
    /^no \\u001b\[2J \[redacted\] \[redacted\] \[redacted\]=*$/,
  );
});
