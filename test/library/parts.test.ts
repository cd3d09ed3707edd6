/** The small parts of the library: what is on, what the keys are, what a line of the log says. */

import { describe, expect, it } from 'vitest';
import { LogDuration } from '../../src/base/logger.ts';
import { CONFIG, type SectionSpec } from '../../src/config/index.ts';
import { whyOff } from '../../src/library/enabled.ts';
import { engineLogger, logSink, parseLogLine, type LogEntry } from '../../src/library/log.ts';
import type { DatabaseSettings, ReplicaSettings } from '../../src/library/settings.ts';

describe('replication is on', () => {
  it.each<[boolean | string | undefined, Record<string, string>, boolean]>([
    [true, {}, true],
    [false, { NODE_ENV: 'production', LITESTREAM_ENABLED: '1' }, false],
    [undefined, {}, false],
    [undefined, { NODE_ENV: 'development' }, false],
    [undefined, { NODE_ENV: 'production' }, true],
    [undefined, { NODE_ENV: 'production', LITESTREAM_ENABLED: 'false' }, false],
    [undefined, { LITESTREAM_ENABLED: 'yes' }, true],
    [undefined, { LITESTREAM_ENABLED: '', NODE_ENV: 'production' }, false],
    ['BACKUP', { BACKUP: '1' }, true],
    ['BACKUP', { BACKUP: 'Off', NODE_ENV: 'production' }, false],
    ['BACKUP', { NODE_ENV: 'production' }, false],
  ])('enabled: %s with %o is %s', (enabled, env, on) => {
    expect(whyOff({ enabled }, env) === undefined).toBe(on);
  });
});

describe('settings', () => {
  // The compiler sees to it that these are the keys of the types, the test that the types have those of the file.
  const replica: Record<keyof ReplicaSettings, true> = {
    type: true,
    name: true,
    path: true,
    url: true,
    'sync-interval': true,
    'snapshot-interval': true,
    retention: true,
    'retention-check-interval': true,
    'validation-interval': true,
    'access-key-id': true,
    'secret-access-key': true,
    region: true,
    bucket: true,
    endpoint: true,
    'force-path-style': true,
    'skip-verify': true,
    'sign-payload': true,
    'require-content-md5': true,
    concurrency: true,
    'part-size': true,
    'max-parts': true,
    'account-name': true,
    'account-key': true,
    'sas-token': true,
    host: true,
    user: true,
    password: true,
    'key-path': true,
    'key-passphrase': true,
    'host-key': true,
    age: true,
  };
  const database: Record<keyof DatabaseSettings, true> = {
    path: true,
    replicas: true,
    'meta-path': true,
    'monitor-interval': true,
    'checkpoint-interval': true,
    'min-checkpoint-page-count': true,
    'max-checkpoint-page-count': true,
  };

  function section(spec: SectionSpec, name: string): SectionSpec {
    const found = spec.keys.find((key) => key.name === name)?.section;
    if (!found) throw new Error(`no section ${name}`);
    return found;
  }

  it('have the keys of the config file', () => {
    const dbs = section(CONFIG, 'dbs');
    expect(Object.keys(database).sort()).toEqual(dbs.keys.map(({ name }) => name).sort());
    expect(Object.keys(replica).sort()).toEqual(
      section(dbs, 'replicas')
        .keys.map(({ name }) => name)
        .sort(),
    );
  });
});

describe('the log', () => {
  it('of a child is read line by line; what is not of it is an error', () => {
    const line = '{"time":"2026-01-02T03:04:05Z","level":"WARN","msg":"slow","db":"/a","lag":5}';
    expect(parseLogLine(line)).toEqual({ level: 'warn', message: 'slow', attributes: { db: '/a', lag: 5 } });
    for (const text of ['node:internal/errors:1', '{"level":"INFO"}', '{"a":', 'null', '']) {
      expect(parseLogLine(text)).toEqual({ level: 'error', message: text, attributes: {} });
    }
  });

  it('goes to methods and to functions, and a logger that throws throws nowhere', async () => {
    const entries: LogEntry[] = [];
    const log = engineLogger(
      logSink((entry) => entries.push(entry)),
      { db: '/a' },
    );
    log
      .with({ replica: 's3' })
      .info('done', { took: new LogDuration(1.5), error: new Error('why'), none: undefined });
    const attributes = { db: '/a', replica: 's3', took: 1_500_000, error: 'why' };
    expect(entries).toEqual([{ level: 'info', message: 'done', attributes }]);

    const calls: unknown[] = [];
    const methods = {
      debug: calls.push,
      info: calls.push,
      error: calls.push,
      warn: (...args: unknown[]) => calls.push(args),
    };
    logSink(methods)({ level: 'warn', message: 'slow', attributes: { a: 1 } });
    expect(calls).toEqual([['slow', { a: 1 }]]);

    const warned = new Promise((resolve) => process.once('warning', resolve));
    logSink(() => {
      throw new Error('the logger fails');
    })({ level: 'info', message: 'done', attributes: {} });
    expect(await warned).toMatchObject({ message: 'the logger fails' });
  });
});
