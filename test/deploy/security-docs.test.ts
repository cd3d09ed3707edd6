/** docs/security.md and docs/permissions.md: links lead to pages and headings, and tables are tables. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from './opt-folder.ts';

const text = (page: string): string => readFileSync(join(ROOT, page), 'utf8');

/** The addresses of a page's headings, as they are shown on the web. */
function anchors(page: string): string[] {
  return [...text(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe.each(['docs/security.md', 'docs/permissions.md'])('%s', (page) => {
  it('has links that lead somewhere', () => {
    const links = [...text(page).matchAll(/\]\(([^)#]*)(?:#([^)]*))?\)/g)];
    expect(links.length).toBeGreaterThan(0);
    for (const [link, file = '', anchor] of links) {
      if (/^https?:/.test(file)) continue;
      const target = file === '' ? page : join(dirname(page), file);
      expect(existsSync(join(ROOT, target)), link).toBe(true);
      if (anchor !== undefined) expect(anchors(target), link).toContain(anchor);
    }
  });

  it('has as many cells in each row of a table as in its head', () => {
    for (const [table] of text(page).matchAll(/^\|.*(?:\n\|.*)*/gm)) {
      const widths = table.split('\n').map((row) => row.replaceAll('\\|', '').split('|').length);
      expect(new Set(widths).size, table).toBe(1);
    }
  });
});
