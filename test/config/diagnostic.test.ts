import { describe, expect, it } from 'vitest';
import { diagnosticAt, formatPlace } from '../../src/config/diagnostic.ts';

/** The place of `needle`, formatted. */
function show(source: string, needle: string): string {
  return formatPlace(diagnosticAt('message', 'f.yml', source, source.indexOf(needle)));
}

describe('formatPlace', () => {
  it('points to the place', () => {
    expect(show('a: 1\r\n\té: x\r\n', 'x')).toBe('f.yml:2:5\n  \té: x\n  \t   ^');
  });

  it('points to the end of the file', () => {
    expect(formatPlace(diagnosticAt('message', 'f.yml', 'a: 1\n', 5))).toBe('f.yml:2:1\n  \n  ^');
  });

  it.each([
    ['secret-access-key: abc # old: def', 'secret-access-key', 'secret-access-key: ***'],
    ['  - access-key-id: "a: b"', 'access', '  - access-key-id: ***'],
    ['password: a, b}', 'pass', 'password: ***'],
    [
      '{access-key-id: AAA, secret-access-key: "x,}y", foo: 1}',
      'foo',
      '{access-key-id: ***, secret-access-key: ***, foo: 1}',
    ],
    ["{'account-key': 'it''s', foo: 1}", 'foo', "{'account-key': ***, foo: 1}"],
    ['{password: "open', 'open', '{password: ***'],
    ['# secret-access-key: abc', '#', '# secret-access-key: ***'],
    ['url: sftp://me:pw@host/x', 'url', 'url: sftp://me:xxxxx@host/x'],
    ['secret-access-key: |\n  first\n  second', 'second', '  ***'],
    ['identities:\n- AGE-SECRET-KEY-1ABC', 'AGE', '***'],
    ['foo: age-secret-key-1abc', 'foo', 'foo: ***'],
    ['foo:\n  - AGE-SECRET-KEY-1ABC', '-', '  - ***'],
  ])('masks secrets in %j', (source, needle, line) => {
    const shown = diagnosticAt('message', 'f.yml', source, source.indexOf(needle));
    expect(shown.sourceLine).toBe(line);
    if (line.includes(needle)) expect(shown.sourceColumn).toBe(line.indexOf(needle) + 1);
    else expect(line.slice(shown.sourceColumn - 1)).toMatch(/^\*\*\*/);
  });

  it('shows the path of a key file', () => {
    expect(show('key-path: /etc/key', '/etc')).toContain('key-path: /etc/key');
  });
});
