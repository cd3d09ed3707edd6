/** Grafana's board against the endpoint of a running `replicate`: each query finds what it asks for, under the labels it names. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { s3Environment, s3Replica } from '../e2e/s3-rig.ts';
import { withRig } from '../support/process-rig.ts';
import { until } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';

const FILE = fileURLToPath(new URL('../../etc/grafana/litestream.json', import.meta.url));

const DOCS = fileURLToPath(new URL('../../docs/metrics.md', import.meta.url));

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
}

const board = JSON.parse(readFileSync(FILE, 'utf8')) as {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: string }[] };
};

const queries = [
  ...board.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr, legendFormat }) => ({ where: `${title}: ${expr}`, expr, legendFormat })),
  ),
  ...board.templating.list
    .filter(({ query }) => query.startsWith('label_values'))
    .map(({ name, query }) => ({ where: `variable ${name}`, expr: query, legendFormat: '' })),
];

/** The labels of each series, by the name of its metric; Prometheus itself adds `instance` and `job`. */
let series: Map<string, Record<string, string>[]>;

beforeAll(async () => {
  const s3 = await S3Server.start();
  try {
    await withRig(async (rig) => {
      const application = await rig.application();
      await application.exec('CREATE TABLE t (x)');
      const litestream = await rig.replicate({
        replica: [...s3Replica(s3.endpoint), 'validation-interval: 200ms'],
        global: ['addr: 127.0.0.1:0'],
        env: s3Environment(s3),
      });
      const line = await litestream.waitForLine(/serving metrics on/);
      const url = /url=(\S+)/.exec(line)?.[1] ?? '';
      // The first verification may wait for commits.
      const text = await until(
        async () => {
          await application.exec('INSERT INTO t VALUES (1)');
          const body = await (await fetch(url)).text();
          return /litestream_replica_verification_timestamp_seconds\{/.test(body) ? body : undefined;
        },
        { timeoutMs: 60_000, describe: () => 'no verification in the metrics' },
      );
      series = parse(text);
    });
  } finally {
    await s3.close();
  }
}, 120_000);

function parse(text: string): Map<string, Record<string, string>[]> {
  const found = new Map<string, Record<string, string>[]>();
  for (const [, name = '', labels = ''] of text.matchAll(/^([a-z_]+)(?:\{(.*)\})? \S+$/gm)) {
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, value]) => [key, value]);
    const own = { ...Object.fromEntries(pairs), instance: 'here', job: 'litestream' } as Record<
      string,
      string
    >;
    found.set(name, [...(found.get(name) ?? []), own]);
  }
  return found;
}

function matchers(text: string): { label: string; operator: string; value: string }[] {
  return [...text.matchAll(/(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"/g)].map(
    ([, label = '', operator = '', value = '']) => ({
      label,
      operator,
      value,
    }),
  );
}

describe('the board', () => {
  test.each(queries)('$where', ({ expr, legendFormat }) => {
    const selectors = [...expr.matchAll(/\b((?:litestream|process)_[a-z_]+)(?:\{([^}]*)\})?/g)];
    expect(selectors.length).toBeGreaterThan(0);
    let labels = new Set<string>();
    for (const [, name = '', inside = ''] of selectors) {
      const there = series.get(name) ?? [];
      expect(there, `${name} is not served`).not.toEqual([]);
      const matching = there.filter((own) =>
        matchers(inside).every(({ label, operator, value }) => {
          // A variable stands for what was chosen of the same label.
          if (value.startsWith('$')) return label in own;
          return operator === '=' ? own[label] === value : label in own;
        }),
      );
      expect(matching, `no series of ${name} has ${inside}`).not.toEqual([]);
      labels = new Set(Object.keys(matching[0] ?? {}));
    }
    const by = /by \(([^)]*)\)/.exec(expr)?.[1]?.split(/,\s*/);
    const wanted = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1] ?? '');
    for (const label of [...(by ?? []), ...wanted]) expect([...labels]).toContain(label);
    if (by) for (const label of wanted) expect(by).toContain(label);
    const asked = /^label_values\(.*, (\w+)\)$/.exec(expr)?.[1];
    if (asked !== undefined) expect([...labels]).toContain(asked);
  });

  test('counters are read as rates, and nothing else is', () => {
    for (const { expr } of queries.filter(({ expr }) => !expr.startsWith('label_values'))) {
      for (const [, name = ''] of expr.matchAll(/\b((?:litestream|process)_[a-z_]+)/g)) {
        const counter = /(_total|_count|_bytes_total|_wal_bytes|blocked_seconds|cpu_seconds_total)$/.test(
          name,
        );
        expect([name, expr.includes('rate(')]).toEqual([name, counter]);
      }
    }
  });

  test('the documentation names all metrics, and no others', () => {
    const text = readFileSync(DOCS, 'utf8');
    const told = new Set([...text.matchAll(/`(litestream_[a-z_]+)`/g)].map((match) => match[1] ?? ''));
    const served = [...series.keys()].filter((name) => name.startsWith('litestream_'));
    expect([...told].sort()).toEqual(served.sort());
    // Those of the alerts, too.
    for (const [name] of text.matchAll(/\blitestream_[a-z_]+/g)) expect(served).toContain(name);
  });

  test('panels do not lie upon each other', () => {
    const cells = new Set<string>();
    for (const { gridPos, title } of board.panels) {
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect([title, cells.has(`${x} ${y}`), x < 24]).toEqual([title, false, true]);
          cells.add(`${x} ${y}`);
        }
      }
    }
  });
});
