/** docs/deploy and README.md: links lead somewhere, scripts are scripts, commands are ours with flags that they have, examples are the real ones. */

import { existsSync, promises as fs, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { COMMAND_SUMMARIES, type CommandName } from '../../src/cmd/help.ts';
import type { Command } from '../../src/cmd/command.ts';
import { ROLE_SETTINGS, type Role, snapshotsKept } from '../../src/cmd/init/roles.ts';
import { splitShellWords } from '../../src/cmd/shell-words.ts';
import { loadConfig } from '../../src/config/index.ts';
import { withTempDir } from '../support/process.ts';
import { ROOT, hasProgram, run } from './opt-folder.ts';

const FOLDER = join(ROOT, 'docs/deploy');
const PAGES = ['../../README.md', ...readdirSync(FOLDER).filter((name) => name.endsWith('.md'))];

function text(page: string): string {
  return readFileSync(join(FOLDER, page), 'utf8');
}

/** The fenced blocks of a language. */
function blocks(page: string, language: string): string[] {
  return [...text(page).matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, found, body = '']) =>
    found === language ? [body] : [],
  );
}

/** Every `litestream COMMAND …` in the scripts and files of a page, and in the etc/ files that it shows, as words. */
function commands(source: string): string[][] {
  const lines = source.replaceAll(/ *\\\n */g, ' ').split('\n');
  return lines.flatMap((line) =>
    [
      ...line.matchAll(/(?<![\w./-])litestream ([a-z]+)((?: (?![&|>])(?:'[^']*'|"[^"]*"|[^\s&|>"']+))*)/g),
    ].flatMap(([, name = '', rest = '']) =>
      Object.hasOwn(COMMAND_SUMMARIES, name) ? [[name, ...splitShellWords(rest).words]] : [],
    ),
  );
}

async function load(name: string): Promise<Command> {
  const { command } = (await import(`../../src/cmd/${name as CommandName}.ts`)) as { command: Command };
  return command;
}

describe.each(PAGES)('%s', (page) => {
  it('has links that lead somewhere', () => {
    const links = [...text(page).matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)].map(([, link]) => link ?? '');
    const missing = links.filter(
      (link) => !/^https?:/.test(link) && !existsSync(join(FOLDER, dirname(page), link)),
    );
    expect(missing).toEqual([]);
  });

  it('has scripts that a shell reads, and files that YAML is', async () => {
    for (const script of blocks(page, 'sh')) {
      expect(await run('/bin/sh', ['-n', '-c', script]), script).toEqual({ code: 0, stdout: '', stderr: '' });
    }
    for (const body of blocks(page, 'yaml')) expect(() => parse(body) as unknown, body).not.toThrow();
  });

  it('has commands with flags that they take', async () => {
    const all = ['sh', 'dockerfile', 'yaml'].flatMap((language) => blocks(page, language)).join('\n');
    for (const [name = '', ...args] of commands(all)) {
      const command = await load(name);
      expect(() => command.parse(args), `litestream ${name} ${args.join(' ')}`).not.toThrow();
    }
  });
});

it('finds the commands of a script, and a flag that there is not', async () => {
  const found = commands(
    "sudo litestream restore -o x \\\n  'a b' && litestream wal y | sort\nmy-litestream wal z\n",
  );
  expect(found).toEqual([
    ['restore', '-o', 'x', 'a b'],
    ['wal', 'y'],
  ]);
  const { parse: parseFlags } = await load('restore');
  expect(() => parseFlags(['-nope'])).toThrow('-nope');
});

describe('examples', () => {
  it('of Kamal and Docker are the files in etc/', async () => {
    const image = 'registry.example.com/litestream-ts';
    const accessory = await fs.readFile(join(ROOT, 'etc/kamal/accessory.yml'), 'utf8');
    const shown: unknown = parse(blocks('kamal.md', 'yaml')[0] ?? '');
    expect(shown).toEqual(parse(accessory.replace('image: litestream-ts', `image: ${image}`)));
    const dockerfile = await fs.readFile(join(ROOT, 'etc/docker/Dockerfile.app'), 'utf8');
    expect(blocks('docker.md', 'dockerfile')).toEqual([dockerfile.replaceAll(/^#.*\n/gm, '')]);
  });

  it('of a config is one', async () => {
    await withTempDir(async (dir) => {
      for (const body of blocks('systemd.md', 'yaml')) {
        await fs.writeFile(join(dir, 'c.yml'), body);
        const { databases, warnings } = await loadConfig(join(dir, 'c.yml'), {
          cwd: dir,
          env: {},
          expandEnv: true,
        });
        expect(warnings).toEqual([]);
        expect(databases[0]?.replicas[0]?.store).toMatchObject({
          type: 's3',
          bucket: 'bucket-name',
          endpoint: 'https://nyc3.digitaloceanspaces.com',
        });
      }
    });
  });

  it('name programs of this repository that are there', () => {
    for (const page of PAGES) {
      for (const [, path = ''] of blocks(page, 'sh')
        .join('\n')
        .matchAll(/(?:^|\s)(etc\/[\w./-]+)/g)) {
        expect(existsSync(join(ROOT, path)), `${page}: ${path}`).toBe(true);
      }
    }
    expect(existsSync(join(dirname(FOLDER), 'configuration.md'))).toBe(true);
  });
});

it('the objects of kubernetes.md are what kubectl makes of its commands', async (test) => {
  test.skip(!(await hasProgram('kubectl')), 'no kubectl');
  const script = blocks('kubernetes.md', 'sh')[0]?.replaceAll(/ *\\\n */g, ' ') ?? '';
  const lines = script.split('\n').filter((line) => line.startsWith('kubectl create'));
  const made = await Promise.all(
    lines.map(async (line) => {
      const { code, stdout, stderr } = await run('/bin/sh', ['-c', `${line} --dry-run=client -o yaml`], {
        cwd: join(ROOT, 'etc/kubernetes'),
      });
      expect(code, stderr).toBe(0);
      return parse(stdout) as { kind: string; data: Record<string, string> };
    }),
  );
  expect(made.map(({ kind, data }) => [kind, Object.keys(data).sort()])).toEqual([
    ['ConfigMap', ['litestream.yml']],
    ['Secret', ['LITESTREAM_ACCESS_KEY_ID', 'LITESTREAM_REPLICA_BUCKET', 'LITESTREAM_SECRET_ACCESS_KEY']],
  ]);
});

it('the table of roles is that of init', () => {
  const rows = [...text('README.md').matchAll(/^\| (primary|cache|queue|cable) \|.*$/gm)].map(
    ([row, role = '']) => {
      const cells = row.split('|').map((cell) => cell.trim());
      return [role, ...cells.slice(3, 7)];
    },
  );
  const expected = (Object.keys(ROLE_SETTINGS) as Role[]).map((role) => {
    const { syncInterval, snapshotInterval, retention } = ROLE_SETTINGS[role];
    return [role, syncInterval, snapshotInterval, retention, String(snapshotsKept(role))];
  });
  expect(rows).toEqual(expected);
});
