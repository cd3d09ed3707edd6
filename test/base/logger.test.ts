import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  LogDuration,
  createLogger,
  quoteText,
  type LogFormat,
  type LogLevel,
  type Logger,
} from '../../src/base/logger.ts';
import { redactUrl } from '../../src/base/redact-url.ts';

const zone = process.env.TZ;
afterEach(() => {
  if (zone === undefined) delete process.env.TZ;
  else process.env.TZ = zone;
});

function record(format: LogFormat, level: LogLevel = 'DEBUG'): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const now = () => new Date('2026-11-21T07:51:34.370Z');
  return { logger: createLogger({ format, level, write: (line) => lines.push(line), now }), lines };
}

describe('text', () => {
  it('prints values bare, and quotes those that could be misread', () => {
    process.env.TZ = 'UTC';
    const { logger, lines } = record('text');
    logger.info('replicating to', {
      name: 's3',
      'sync-interval': new LogDuration(1000),
      path: '',
      skipped: undefined,
      size: 12,
      big: 5n,
      ok: true,
      at: new Date('2026-01-02T03:04:05Z'),
    });
    logger.error('failed to run', { error: new Error('unknown replica type in config: "wat"') });
    expect(lines).toEqual([
      'time=2026-11-21T07:51:34.370Z level=INFO msg="replicating to" name=s3 sync-interval=1s path="" size=12 big=5 ok=true at=2026-01-02T03:04:05.000Z\n',
      'time=2026-11-21T07:51:34.370Z level=ERROR msg="failed to run" error="unknown replica type in config: \\"wat\\""\n',
    ]);
  });

  it('prints the local offset', () => {
    process.env.TZ = 'Asia/Kolkata';
    const { logger, lines } = record('text');
    logger.warn('x');
    process.env.TZ = 'America/New_York';
    logger.warn('x');
    expect(lines).toEqual([
      'time=2026-11-21T13:21:34.370+05:30 level=WARN msg=x\n',
      'time=2026-11-21T02:51:34.370-05:00 level=WARN msg=x\n',
    ]);
  });

  it.each([
    ['plain/path-1.db', 'plain/path-1.db'],
    ['', '""'],
    ['a b', '"a b"'],
    ['a=b', '"a=b"'],
    ['a\\b', 'a\\b'],
    ['a\\ b', '"a\\\\ b"'],
    ['é', 'é'],
    ['a\u00a0b', '"a\\u00a0b"'],
    ['\u0007\b\f\n\r\t\v\u0001', '"\\a\\b\\f\\n\\r\\t\\v\\x01"'],
    ['\u{10ffff}', '"\\U0010ffff"'],
    ['\u{1f600}', '\u{1f600}'],
    ['\ud800', '"\ufffd"'],
  ])('quotes %j as %s', (text, expected) => {
    expect(quoteText(text)).toBe(expected);
  });

  it('never lets a value break out of its line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const quoted = quoteText(text);
        expect(quoted).not.toMatch(/[\n\r]/);
        if (!quoted.startsWith('"')) expect(quoted).not.toMatch(/[\s="]/);
        else expect(quoted).toMatch(/^"(?:[^"\\]|\\.)*"$/su);
      }),
    );
  });
});

describe('json', () => {
  it('prints durations as nanoseconds and errors as their message', () => {
    process.env.TZ = 'UTC';
    const { logger, lines } = record('json');
    logger.with({ db: '/a' }).info('x "y"', {
      'sync-interval': new LogDuration(1000),
      elapsed: '18.539384ms',
      error: new Error('bad\nthing'),
      size: 7n,
      ratio: Number.NaN,
    });
    expect(lines).toEqual([
      '{"time":"2026-11-21T07:51:34.37Z","level":"INFO","msg":"x \\"y\\"","db":"/a","sync-interval":1000000000,"elapsed":"18.539384ms","error":"bad\\nthing","size":7,"ratio":"NaN"}\n',
    ]);
  });
});

describe('default', () => {
  it('prints as before any config is read', () => {
    process.env.TZ = 'UTC';
    const { logger, lines } = record('default', 'INFO');
    logger.debug('dropped');
    logger.error('failed to run', { error: new Error('too many arguments') });
    expect(lines).toEqual(['2026/11/21 07:51:34 ERROR failed to run error="too many arguments"\n']);
  });
});

it('drops what is below its level', () => {
  const { logger, lines } = record('text', 'ERROR');
  logger.with({ a: 1 }).warn('x');
  logger.error('y');
  expect(lines).toHaveLength(1);
});

it('redacts the password of every URL', () => {
  expect(redactUrl('sftp://user:se:cr@et@host/p and s3://b/p, http://u@h, postgres://:pw@h')).toBe(
    'sftp://user:xxxxx@host/p and s3://b/p, http://u@h, postgres://:xxxxx@h',
  );
});
