import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', 'src');

/** Modules that `file` imports when it is loaded; types do not count, they are gone by then. */
function importsOf(file: string): string[] {
  const source = readFileSync(file, 'utf8');
  const matches = source.matchAll(/^(?:import|export)\s(?!type\b)[^;]*?from '(\.[^']+)'/gms);
  return [...matches].map((match) => join(dirname(file), match[1]!));
}

/** The first cycle in the graph of imports, as a list of files, or undefined. */
function findCycle(graph: ReadonlyMap<string, string[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    done.add(file);
    for (const next of graph.get(file) ?? []) {
      const cycle = visit(next, [...path, file]);
      if (cycle) return cycle;
    }
    return undefined;
  };
  for (const file of graph.keys()) {
    const cycle = visit(file, []);
    if (cycle) return cycle;
  }
  return undefined;
}

describe('import graph', () => {
  it('has no cycle', () => {
    const names = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.ts'),
    );
    const files = names.map((name) => join(root, name));
    expect(files.length).toBeGreaterThan(10);
    const graph = new Map(files.map((file) => [file, importsOf(file)]));
    expect(findCycle(graph)?.map((file) => relative(root, file))).toBeUndefined();
  });

  it('findCycle finds one', () => {
    expect(
      findCycle(
        new Map([
          ['a', ['b']],
          ['b', ['c']],
          ['c', ['b']],
        ]),
      ),
    ).toEqual(['b', 'c', 'b']);
  });
});
