/** Config files: they are read or refused in the file's own words, and no secret in them is ever shown. */

import assert from 'node:assert/strict';
import { LitestreamError } from '../../../src/base/errors.ts';
import {
  ConfigError,
  type Diagnostic,
  checkReplicable,
  describeLocation,
  formatPlace,
  loadConfigText,
} from '../../../src/config/index.ts';
import { expandEnv, isExpanded, sourceOffset } from '../../../src/config/expand-env.ts';
import { type FuzzTarget, bytesOf, textOf } from '../target.ts';

const LITERAL = 'hUnTeRtWo99';
const OF_VARIABLE = 'fRoMtHeEnViRoNmEnT';
const ENV = { PW: OF_VARIABLE, EMPTY: '', NAME: 'app', HOME: '/home/user', MULTI: 'a\nb: c' };
const SURROUNDINGS = { cwd: '/work', env: ENV };

/** Places that are for secrets: what stands elsewhere is shown to who wrote it there. */
const KEYS =
  '(?:secret-access-key|access-key-id|account-key|password|key-passphrase|heartbeat-url|identities|secret|token)';
const SECRET_PLACE = new RegExp(
  `^(?:[ ]*(?:- )?|[ ]*- ?\\{ ?|\\{|.*, )${KEYS}: (?:"|'|\\[)?(?:${LITERAL}|\\$\\{PW\\})(?:"|'|\\])?[ ]*\\}?$|` +
    `^(?:[ ]*(?:- )?|.*[{,] ?)(?:url|endpoint|heartbeat-url): "?[a-z][a-z0-9]*://[\\w.%-]*:(?:${LITERAL}|\\$\\{PW\\})@[\\w.:/-]*["}\\] ]*$`,
);

const ANY_SECRET = new RegExp(`${LITERAL}|PW`);

/** Whether every line with a secret has one, where secrets belong. */
function isWellPlaced(text: string): boolean {
  return text
    .split('\n')
    .filter((line) => line.includes(LITERAL) || line.includes('PW'))
    .every((line) => SECRET_PLACE.test(line) && line.split(ANY_SECRET).length === 2);
}

function checkDiagnostic(diagnostic: Diagnostic, text: string): void {
  const { line, column, sourceColumn } = diagnostic;
  const lines = text.split('\n');
  assert(line >= 1 && line <= lines.length, `line ${line} of ${lines.length}`);
  assert(column >= 1 && column <= (lines[line - 1] ?? '').length + 1, `column ${column}`);
  assert(sourceColumn >= 1 && sourceColumn <= diagnostic.sourceLine.length + 1, `column ${sourceColumn}`);
}

function checkExpansion(text: string): void {
  const expansion = expandEnv(text, ENV);
  let before = 0;
  const step = Math.max(1, Math.floor(expansion.text.length / 50));
  for (let offset = 0; offset <= expansion.text.length; offset += step) {
    const source = sourceOffset(expansion, offset);
    assert(source >= before && source <= text.length, `offset ${offset} is ${source} of ${text.length}`);
    before = source;
    // What came out of no variable stands in the text.
    if (offset < expansion.text.length && !isExpanded(expansion, offset, offset + 1))
      assert.equal(text[source], expansion.text[offset]);
  }
  assert.equal(expandEnv(text.replaceAll('$', ''), ENV).text, text.replaceAll('$', ''));
}

async function checkLoaded(text: string, expand: boolean): Promise<void> {
  const shown: string[] = [];
  const show = (diagnostics: readonly Diagnostic[]): void => {
    for (const diagnostic of diagnostics) {
      checkDiagnostic(diagnostic, text);
      shown.push(diagnostic.message, formatPlace(diagnostic));
    }
  };
  try {
    const config = await loadConfigText('/etc/litestream.yml', text, { ...SURROUNDINGS, expandEnv: expand });
    show(config.warnings);
    for (const { replicas, path } of config.databases) {
      assert(path.startsWith('/'), path);
      for (const { store } of replicas) shown.push(describeLocation(store));
    }
    assert(config.shutdownTimeoutMs > 0 && config.maxConcurrentRequests >= 1);
    checkReplicable(config);
  } catch (error) {
    if (!(error instanceof LitestreamError) || error.code !== 'config') throw error;
    shown.push(error.message);
    if (error instanceof ConfigError) {
      show(error.diagnostics);
      show(error.warnings);
      shown.push(error.headline);
    }
  }
  if (!isWellPlaced(text)) return;
  const found = shown.find((line) => line.includes(LITERAL) || line.includes(OF_VARIABLE));
  assert.equal(found, undefined, 'a secret is shown');
}

export const target: FuzzTarget = {
  name: 'config',
  seeds: () =>
    bytesOf(
      'dbs:\n  - path: /data/app.db\n    replicas:\n      - url: s3://bucket/app\n        secret-access-key: ${PW}\n        access-key-id: AKID\n',
      `dbs:\n  - path: a.db\n    replicas:\n      - type: sftp\n        host: h:22\n        user: u\n        password: ${LITERAL}\n        key-path: /k\n        key-passphrase: "\${PW}"\n`,
      `addr: ":9090"\nheartbeat-url: https://u:${LITERAL}@h/x\nheartbeat-interval: 5m\nlogging: {level: debug, type: json}\n`,
      'x: &a [1, 2]\ny: *a\ndbs:\n  - &d\n    path: a\n    replicas: [{url: "file:///b"}]\n  - <<: *d\n    path: c\n',
      `dbs:\n  - {path: $NAME.db, replicas: [{type: abs, bucket: b, account-key: ${LITERAL}}]}\n`,
      `dbs: [{path: a, replicas: [{url: "sftp://u:${LITERAL}@h/p"}]}]`,
      `dbs: [{path: a, replicas: [{url: "sftp://u@h/p", age: {recipients: [age1x], identities: ["${LITERAL}"]}}]}]`,
      '# $PW\n%YAML 1.1\n---\n!!map {a: !!str b}\n...\n',
      'dbs:\n  - path: ~/x\n    monitor-interval: 1s\n    checkpoint-interval: -1m\n    max-checkpoint-page-count: 0x10\nsocket: {enabled: yes, permissions: 0600}\n',
    ),
  dictionary: [
    ...[
      ': ',
      '- ',
      '\n',
      '\n  ',
      '"',
      "'",
      '{',
      '}',
      '[',
      ']',
      ', ',
      '&a ',
      '*a',
      '<<: ',
      '!!str ',
      '#',
      '|\n',
      '>-\n',
    ],
    ...[
      '---\n',
      '...\n',
      '${PW}',
      '$NAME',
      '${',
      '$$',
      '${A:-b}',
      '? ',
      '\t',
      '\\x00',
      '\\',
      'yes',
      'null',
      '~',
      '.inf',
    ],
    ...[
      'dbs',
      'path',
      'replicas',
      'url',
      'type',
      's3',
      'sftp',
      'file',
      'abs',
      'gcs',
      'password',
      'secret-access-key',
    ],
    ...[
      'account-key',
      'identities',
      'recipients',
      'age',
      'heartbeat-url',
      'logging',
      'socket',
      'retention',
      '1h',
      '-1',
    ],
    ...[
      `password: ${LITERAL}`,
      'token: ${PW}',
      `{secret: ${LITERAL}}`,
      'part-size: 5MiB',
      'max-parts: 100',
      'host-key',
    ],
    ...[
      'sync-interval',
      'snapshot-interval',
      'validation-interval',
      'endpoint: http://h',
      'region',
      'skip-verify: true',
    ],
  ],
  maxBytes: 2048,
  async run(data) {
    const text = textOf(data);
    checkExpansion(text);
    await checkLoaded(text, data.byteLength % 4 !== 0);
  },
};
