/**
 * The SQLite databases of a Rails application, from config/database.yml: YAML with Ruby in it. Of the Ruby only what
 * stands there by custom is understood (variables with defaults, Rails.root, Rails.env); nothing is ever run.
 */

import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import type { FoundFile, Search } from './discover.ts';
import { readTextIfThere } from './read-text.ts';

/** Takes the place of Ruby that is not understood. */
const UNKNOWN = '\u{fffd}ruby\u{fffd}';
const ADAPTERS = /^(sqlite3?|litedb)$/i;

/** The databases of `environment`, in the order of the file; none without the file. */
export async function databasesOfRails(search: Search, environment: string): Promise<FoundFile[]> {
  const file = join(search.folder, 'config/database.yml');
  const text = await readTextIfThere(file);
  if (text === '') return [];
  let root: unknown;
  try {
    const { parse } = await import('yaml');
    root = parse(withoutRuby(text, search.env, environment), { merge: true, logLevel: 'error' });
  } catch (error) {
    search.note(`${file} is not understood, looking elsewhere: ${messageOf(error).split('\n', 1)[0] ?? ''}`);
    return [];
  }
  const section = mapOf(mapOf(root)?.[environment]);
  if (section === undefined) {
    search.note(`${file} has no ${environment} databases`);
    return [];
  }
  // With one database its keys stand there directly, maps such as `pragmas` among them.
  const single = 'database' in section || 'url' in section;
  const entries = single ? [['primary', section] as const] : mapsIn(section);
  return entries.flatMap(([name, entry]) => {
    const path = pathOf(entry);
    if (path === undefined || entry['replica'] === true) return [];
    if (!path.includes(UNKNOWN)) return [{ path, name }];
    search.note(`${file}: the path of ${name} is made by Ruby code: name it on the command line`);
    return [];
  });
}

/** The path in an entry of a SQLite database; undefined for another kind of database, and for one in memory. */
function pathOf(entry: Record<string, unknown>): string | undefined {
  const { adapter, database, url } = entry;
  const fromUrl = typeof url === 'string' ? /^sqlite3?:(?:\/\/(?=\/))?([^?]+)/i.exec(url)?.[1] : undefined;
  const path = fromUrl ?? (typeof database === 'string' ? database : undefined);
  if (path === undefined || path === ':memory:' || path === '') return undefined;
  const sqlite = typeof adapter === 'string' ? ADAPTERS.test(adapter) : /\.(sqlite3?|db)$/.test(path);
  return sqlite || fromUrl !== undefined ? path : undefined;
}

function mapsIn(section: Record<string, unknown>): (readonly [string, Record<string, unknown>])[] {
  return Object.entries(section).flatMap(([name, value]) => {
    const entry = mapOf(value);
    return entry === undefined ? [] : [[name, entry] as const];
  });
}

function mapOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

/** The YAML that Rails would see: `<%= … %>` with its value where that is understood, `<% … %>` gone. */
export function withoutRuby(text: string, env: NodeJS.ProcessEnv, environment: string): string {
  return text.replace(/<%(=?)([\s\S]*?)-?%>/g, (_, prints: string, code: string) =>
    prints === '=' ? valueOf(code.trim(), env, environment) : '',
  );
}

function valueOf(code: string, env: NodeJS.ProcessEnv, environment: string): string {
  const text = `["']([^"']*)["']`;
  const variable = new RegExp(
    `^ENV(?:\\.fetch\\(${text}(?:, *${text})?\\)|\\[${text}\\])(?: *(?:\\{ *|\\|\\| *)${text} *\\}?)?$`,
  ).exec(code);
  if (variable !== null) {
    const [, fetched, fetchDefault, indexed, orElse] = variable;
    return env[fetched ?? indexed ?? ''] ?? fetchDefault ?? orElse ?? UNKNOWN;
  }
  const joined = /^Rails\.root\.join\(([^()]*)\)(?:\.to_s)?$/.exec(code)?.[1];
  if (joined !== undefined) {
    const parts = [...joined.matchAll(/["']([^"']*)["']/g)].map(([, part]) => part ?? '');
    return parts.length > 0 ? parts.join('/') : UNKNOWN;
  }
  if (code === 'Rails.env') return environment;
  if (code === 'Rails.root') return '.';
  return UNKNOWN;
}
