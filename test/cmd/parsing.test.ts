/** The small syntaxes of the command line: tables, times, shell words, the progress line. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { describeExecEnd, execExitCode } from '../../src/cmd/exec-process.ts';
import { formatLag } from '../../src/cmd/generations.ts';
import { ProgressLine, formatProgress } from '../../src/cmd/progress.ts';
import { splitShellWords } from '../../src/cmd/shell-words.ts';
import { formatTable, formatTime } from '../../src/cmd/table.ts';
import { parseTimestamp } from '../../src/cmd/timestamp.ts';

describe('tables', () => {
  test('columns are two spaces apart, the last one is not padded', () => {
    const rows = [
      ['/a', 'file,two'],
      ['/longer', ''],
    ];
    expect(formatTable(['path', 'replicas'], rows)).toBe('path     replicas\n/a       file,two\n/longer  \n');
  });

  test('a header alone', () => {
    expect(formatTable(['replica', 'index'], [])).toBe('replica  index\n');
  });

  test('width counts characters, not bytes or UTF-16 units', () => {
    expect(formatTable(['a', 'b'], [['ü😀', 'x']])).toBe('a   b\nü😀  x\n');
  });

  test('times are cut to the second', () => {
    expect(formatTime(new Date('2021-01-01T03:04:05.999Z'))).toBe('2021-01-01T03:04:05Z');
  });

  test.each([
    [0, '0s'],
    [-5, '-5ms'],
    [999, '999ms'],
    [1000, '1s'],
    [1999, '1.9s'],
    [-2049, '-2s'],
    [10_000, '10s'],
    [10_900, '10s'],
    [185_697_150_123, '51582h32m30s'],
  ])('lag %d ms', (ms, text) => {
    expect(formatLag(ms)).toBe(text);
  });
});

describe('-timestamp', () => {
  test.each([
    ['2000-01-01T00:00:00Z', '2000-01-01T00:00:00.000Z'],
    ['2000-01-01T00:00:00.5Z', '2000-01-01T00:00:00.500Z'],
    ['2000-01-01T00:00:00,25Z', '2000-01-01T00:00:00.250Z'],
    ['2000-01-01T00:00:00.123999999Z', '2000-01-01T00:00:00.123Z'],
    ['2000-01-01T00:00:00+02:00', '1999-12-31T22:00:00.000Z'],
    ['2000-01-01T00:00:00-00:30', '2000-01-01T00:30:00.000Z'],
    ['2000-02-29T23:59:59Z', '2000-02-29T23:59:59.000Z'],
    ['0099-12-31T00:00:00Z', '0099-12-31T00:00:00.000Z'],
  ])('%s', (text, time) => {
    expect(parseTimestamp(text).toISOString()).toBe(time);
  });

  test.each([
    '2000-01-01',
    '2000-01-01t00:00:00z',
    '2001-02-29T00:00:00Z',
    '2000-13-01T00:00:00Z',
    '2000-01-00T00:00:00Z',
    '2000-01-01T24:00:00Z',
    '2000-01-01T00:00:60Z',
    '2000-1-01T00:00:00Z',
    '2000-01-01T00:00:00.Z',
    'yesterday',
    '10 minutes ago and more',
  ])('%s is refused', (text) => {
    expect(() => parseTimestamp(text)).toThrow(
      'invalid -timestamp, must specify in ISO 8601\u00a0format (e.g. 2000-01-01T00:00:00Z) or as ',
    );
  });

  test('every time in ISO format reads as itself', () => {
    const times = fc.date({
      min: new Date('0000-01-01T00:00:00Z'),
      max: new Date('9999-12-31T23:59:59Z'),
      noInvalidDate: true,
    });
    fc.assert(
      fc.property(times, (time) => {
        expect(parseTimestamp(time.toISOString())).toEqual(time);
      }),
    );
  });
});

describe('-exec', () => {
  // As observed on v0.3.13 with a program that prints its arguments.
  test.each([
    ['a "b c" d\\ e \'f g\' h"i"j "" \'\'', ['a', 'b c', 'd e', 'f g', 'hij', '', '']],
    ['\'a\\b\' "a\\"b\\nc" a\\nb', ['a\\b', 'a"bnc', 'anb']],
    ['$(echo hi) `echo hi` $HOME "$HOME"', ['$(echo hi)', '`echo hi`', '$HOME', '$HOME']],
    ['a\nb\tc', ['a', 'b', 'c']],
    ['a#b #c', ['a#b', '#c']],
    ['"(a)" \\; \\&', ['(a)', ';', '&']],
    ['A=1 b', ['A=1', 'b']],
    ["$'a'", ['$a']],
    ['   ', []],
  ])('%s', (line, words) => {
    expect(splitShellWords(line)).toEqual({ words, ignored: '' });
  });

  test.each([
    ['a && echo b', ['a'], '&& echo b'],
    ['a;b', ['a'], ';b'],
    ['a > x', ['a'], '> x'],
    ['a 2> x', ['a'], '> x'],
    ['a "x|y" | z', ['a', 'x|y'], '| z'],
  ])('%s: the rest is not run', (line, words, ignored) => {
    expect(splitShellWords(line)).toEqual({ words, ignored });
  });

  test.each(['sh -c "unclosed', "it's", 'a\\', 'a(b', 'a)b', '$(a', '`a'])('%s is refused', (line) => {
    expect(() => splitShellWords(line)).toThrow('cannot parse exec command: invalid command line string');
  });

  test('any words come back when quoted', () => {
    const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
    fc.assert(
      fc.property(fc.array(fc.string()), (words) => {
        expect(splitShellWords(words.map(quote).join(' '))).toEqual({ words, ignored: '' });
      }),
    );
  });

  test('how a child ended', () => {
    expect(execExitCode({ code: 7, signal: null })).toBe(7);
    expect(execExitCode({ code: null, signal: 'SIGKILL' })).toBe(137);
    expect(describeExecEnd({ code: 7, signal: null })).toBe('exit status 7');
    expect(describeExecEnd({ code: null, signal: 'SIGTERM' })).toBe('signal: terminated');
  });
});

describe('progress', () => {
  const step = { bytesDone: 12_500_000, bytesTotal: 64_000_000, segmentsDone: 80, segmentsTotal: 400 };

  test('bytes, segments, rate and time left', () => {
    expect(formatProgress(step, 500)).toBe(
      'restoring 12.5 MB of 64.0 MB (19%), segments 80/400, 25.0 MB/s, 3s left',
    );
    expect(formatProgress({ ...step, bytesDone: 0 }, 500)).toBe(
      'restoring 0 B of 64.0 MB (0%), segments 80/400, 0 B/s',
    );
    expect(formatProgress({ ...step, bytesDone: 1000 }, 10_000)).toContain(', 100 B/s, 177h46m left');
    expect(formatProgress({ ...step, bytesDone: 999_960 }, 10_000)).toContain('restoring 1.0 MB of');
  });

  test('redraws at most each 100 ms, within the terminal', () => {
    let now = 0;
    const written: string[] = [];
    const line = new ProgressLine({ columns: 21, write: (text) => written.push(text) }, () => now);
    for (now = 1000; now < 1100; now += 10) line.update(step);
    expect(written).toEqual(['\r\u001b[Krestoring 12.5 MB of']);
    now = 1100;
    line.update(step);
    expect(written).toHaveLength(2);
  });

  test('warnings are printed above the line, informational lines not at all', () => {
    const written: string[] = [];
    const write = (text: string): void => void written.push(text);
    const line = new ProgressLine({ columns: 0, write }, () => 0);
    const logger = line.quiet(createLogger({ format: 'text', level: 'INFO', write, now: () => new Date(0) }));
    line.update(step);
    logger.info('downloaded wal');
    logger.with({ db: 'x' }).warn('odd');
    expect(written.slice(1)).toEqual(['\r\u001b[K', expect.stringMatching(/level=WARN msg=odd db=x\n$/)]);
    line.finish('/out');
    expect(written.at(-1)).toBe('restored /out: 12.5 MB, 80 segments in 0.0s\n');
  });
});
