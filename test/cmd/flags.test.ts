import { describe, expect, test } from 'vitest';
import { parseFlags } from '../../src/cmd/flags.ts';

const TABLE = {
  config: { kind: 'string', help: '' },
  o: { kind: 'string', help: '' },
  force: { kind: 'bool', help: '' },
  parallelism: { kind: 'int', help: '' },
  index: { kind: 'index', help: '' },
} as const;

const parse = (...args: string[]) => parseFlags(TABLE, args);

describe('forms', () => {
  test.each([
    [['-config', 'x']],
    [['-config=x']],
    [['--config', 'x']],
    [['--config=x']],
    [['-config', 'first', '-config', 'x']],
  ])('%j', (args) => {
    expect(parse(...args).flags).toEqual({ config: 'x' });
  });

  test('a value may be empty, hold = or look like a flag', () => {
    expect(parse('-config=', '-o', '-force').flags).toEqual({ config: '', o: '-force' });
    expect(parse('-o=a=b').flags).toEqual({ o: 'a=b' });
  });

  test('booleans take a value only after =', () => {
    expect(parse('-force', 'false')).toMatchObject({ flags: { force: true }, positionals: ['false'] });
    for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) {
      expect(parse(`-force=${text}`).flags).toEqual({ force: false });
    }
    for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) {
      expect(parse(`-force=${text}`).flags).toEqual({ force: true });
    }
  });

  test('flags are accepted before, between and after arguments', () => {
    expect(parse('a', '-o', 'x', 'b', '-force')).toEqual({
      flags: { o: 'x', force: true },
      positionals: ['a', 'b'],
      help: false,
    });
  });

  test('-- ends flags, a single dash is an argument', () => {
    expect(parse('-', '--', '-o', '--').positionals).toEqual(['-', '-o', '--']);
  });

  test('help ends the parsing', () => {
    for (const flag of ['-h', '--h', '-help', '--help']) expect(parse(flag, '-nope').help).toBe(true);
  });
});

describe('values', () => {
  test.each([
    ['5', 5],
    ['-3', -3],
    ['+3', 3],
    ['0x1f', 31],
    ['0b11', 3],
    ['0o17', 15],
    ['017', 15],
    ['1_000', 1000],
    ['0', 0],
  ])('integer %s', (text, value) => {
    expect(parse('-parallelism', text).flags.parallelism).toBe(value);
  });

  test.each([
    ['0', 0],
    ['10', 16],
    ['0000000a', 10],
    ['FF', 255],
    ['+5', 5],
    ['ffffffff', 0xffffffff],
  ])('index %s', (text, value) => {
    expect(parse('-index', text).flags.index).toBe(value);
  });
});

test.each([
  [['-nope'], 'flag provided but not defined: -nope'],
  [['--nope=1'], 'flag provided but not defined: -nope'],
  [['-constructor'], 'flag provided but not defined: -constructor'],
  [['x', '-config'], 'flag needs an argument: -config'],
  [['---config'], 'bad flag syntax: ---config'],
  [['-=x'], 'bad flag syntax: -=x'],
  [['--=x'], 'bad flag syntax: --=x'],
  [['-force=maybe'], 'invalid boolean value "maybe" for -force: parse error'],
  [['-parallelism', 'x'], 'invalid value "x" for flag -parallelism: parse error'],
  [['-parallelism', ''], 'invalid value "" for flag -parallelism: parse error'],
  [['-parallelism', ' 3'], 'invalid value " 3" for flag -parallelism: parse error'],
  [['-parallelism', '08'], 'invalid value "08" for flag -parallelism: parse error'],
  [
    ['-parallelism', '99999999999999999999'],
    'invalid value "99999999999999999999" for flag -parallelism: value out of range',
  ],
  [['-index', 'xyz'], 'invalid value "xyz" for flag -index: invalid hexadecimal format'],
  [['-index', '0x5'], 'invalid value "0x5" for flag -index: invalid hexadecimal format'],
  [['-index', ''], 'invalid value "" for flag -index: invalid hexadecimal format'],
  [['-index', '-1'], 'invalid value "-1" for flag -index: an index is never negative'],
  [['-index', '100000000'], 'invalid value "100000000" for flag -index: the largest index is ffffffff'],
])('%j is refused', (args, message) => {
  expect(() => parse(...args)).toThrow(expect.objectContaining({ code: 'usage', message }) as Error);
});
