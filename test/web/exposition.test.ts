import { expect, test } from 'vitest';
import { exposition } from '../../src/web/exposition.ts';

test('metrics in their order, with what must be escaped, and numbers as Prometheus writes them', async () => {
  const text = await exposition([
    {
      name: 'a_total',
      help: 'A "back\\slash"\nand a line.',
      type: 'counter',
      read: () => [
        [{ db: '/a "b"\\c\nd', mode: '' }, 0.1],
        [{ db: 'ü' }, 12345678901234567890],
      ],
    },
    { name: 'none', help: 'Nothing.', type: 'gauge', read: () => Promise.resolve([]) },
    {
      name: 'b',
      help: 'B.',
      type: 'gauge',
      *read() {
        for (const value of [1e-7, -1.5, NaN, Infinity, -Infinity]) yield [{}, value];
      },
    },
  ]);
  expect(text).toBe(
    [
      '# HELP a_total A "back\\\\slash"\\nand a line.',
      '# TYPE a_total counter',
      'a_total{db="/a \\"b\\"\\\\c\\nd",mode=""} 0.1',
      'a_total{db="ü"} 12345678901234567000',
      '',
      '# HELP none Nothing.',
      '# TYPE none gauge',
      '',
      '# HELP b B.',
      '# TYPE b gauge',
      'b 1e-7',
      'b -1.5',
      'b NaN',
      'b +Inf',
      'b -Inf',
      '',
    ].join('\n'),
  );
});

test('a metric that cannot be read fails the whole: half of the numbers would look like all', async () => {
  const read = () => Promise.reject(new Error('gone'));
  await expect(exposition([{ name: 'a', help: 'A.', type: 'gauge', read }])).rejects.toThrow('gone');
});
