/** Aliases: what they stand for, and what files made of them cannot do. */

import { expect, test } from 'vitest';
import { type ConfigNode, parseYaml } from '../../src/config/yaml-tree.ts';

function plain(node: ConfigNode): unknown {
  if (node.kind === 'scalar') return node.text;
  if (node.kind === 'seq') return node.items.map(plain);
  return Object.fromEntries(node.entries.map(({ key, value }) => [key, plain(value)]));
}

test('an alias stands for the last node before it that has its anchor', async () => {
  const text = '{a: [&x 1, *x, &x 2, *x], ? {k: &y 3} : 0, b: *y, c: &z {d: *x, e: &x 4}, f: [*x, *z]}';
  const z = { d: '2', e: '4' };
  expect(plain((await parseYaml(text))!)).toEqual({ a: ['1', '1', '2', '2'], b: '3', c: z, f: ['4', z] });
  await expect(parseYaml('[*x, &x 1]')).rejects.toThrow('unknown anchor referenced');
  const itself = await parseYaml('&a [*a]');
  expect(itself?.kind === 'seq' && itself.items[0] === itself).toBe(true);
});

test('many aliases are followed in one walk', async () => {
  const root = await parseYaml(`[&a x, ${Array<string>(150_000).fill('*a').join(', ')}]`);
  expect(root?.kind === 'seq' ? root.items.length : 0).toBe(150_001);
});

test('aliases of aliases that make more of a small file than a config can be are refused', async () => {
  const many = (name: string): string => `[${Array<string>(1000).fill(`*${name}`).join(', ')}]`;
  const replicas = `r: &r {path: /r}\nd: &d {path: /d, replicas: ${many('r')}}\ndbs: ${many('d')}\n`;
  await expect(parseYaml(replicas)).rejects.toThrow('document contains excessive aliasing');
  // A default for each of many databases is no attack.
  const databases = Array.from({ length: 2000 }, (_, i) => `  - {path: /d${i}, replicas: *r}\n`).join('');
  const root = await parseYaml(`r: &r [{path: /r, retention: 1h}]\ndbs:\n${databases}`);
  expect(root?.kind).toBe('map');
});
