/** Reads a config file and resolves it to the options of the engine. */

import { readFile } from 'node:fs/promises';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import { formatDuration } from '../base/duration.ts';
import type { LogLevel } from '../base/logger.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import { findLocationClash } from './check.ts';
import type { Config, LoggingOptions } from './config.ts';
import { resolveHeartbeat, resolveSocket } from './control.ts';
import { Decoder, type Section } from './decode.ts';
import { ConfigError, diagnosticAt, inFileOrder, type Diagnostic } from './diagnostic.ts';
import { checkEncryption } from './encryption.ts';
import { expandEnv, sourceOffset, type EnvReference, type Expansion } from './expand-env.ts';
import { expandPath, type Surroundings } from './paths.ts';
import { resolveReplica } from './resolve-replica.ts';
import { CONFIG } from './schema.ts';
import { parseYaml, YamlSyntaxError, type ConfigNode } from './yaml-tree.ts';

export interface LoadOptions extends Surroundings {
  /** false: leave `$NAME` as it stands (`-no-expand-env`). */
  readonly expandEnv: boolean;
  /** Of findConfig(). */
  readonly whenMissing?: string | undefined;
}

/**
 * Reads `path`. Throws LitestreamError 'config': a ConfigError with the place for what is wrong inside the file, a plain one
 * when there is no such file. What only replicating forbids is left to checkReplicable. Sets nothing in the environment.
 */
export async function loadConfig(path: string, options: LoadOptions): Promise<Config> {
  const absolute = expandPath(path, options);
  return loadConfigText(absolute, await readSource(absolute, options.whenMissing), options);
}

/** Like loadConfig() for text that is known already. @param path what messages call it */
export async function loadConfigText(path: string, source: string, options: LoadOptions): Promise<Config> {
  const expansion: Expansion = options.expandEnv
    ? expandEnv(source, options.env)
    : { text: source, references: [] };
  const decoder = new Decoder(path, source, expansion);
  warnOfUnset(decoder, path, source, expansion);
  try {
    const root = decoder.decode(await readYaml(path, source, expansion), CONFIG);
    const config = resolveConfig(path, root, decoder, options);
    await checkEncryption(config.databases, (message, replica) => {
      const diagnostic = config.locate?.(replica, message);
      return new ConfigError(message, diagnostic === undefined ? [] : [diagnostic], config.logging);
    });
    return config;
  } catch (error) {
    if (error instanceof ConfigError) error.warnings = decoder.warnings.toSorted(inFileOrder);
    throw error;
  }
}

async function readSource(path: string, whenMissing: string = ''): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    switch (systemCode(error)) {
      case 'ENOENT':
        throw new LitestreamError('config', `config file not found: ${path}${whenMissing}`, {
          cause: error,
        });
      case 'EISDIR':
        throw new LitestreamError('config', `read ${path}: is a directory`, { cause: error });
      case 'EACCES':
        throw new LitestreamError('config', `open ${path}: permission denied`, { cause: error });
      default:
        throw wrapError(error, `read config file ${path}`);
    }
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new LitestreamError('config', `config file is not UTF-8 text: ${path}`, { cause: error });
  }
}

async function readYaml(path: string, source: string, expansion: Expansion): Promise<ConfigNode | undefined> {
  try {
    return await parseYaml(expansion.text);
  } catch (error) {
    if (!(error instanceof YamlSyntaxError)) throw wrapError(error, `parse config file ${path}`);
    const diagnostic = diagnosticAt(error.message, path, source, sourceOffset(expansion, error.offset));
    throw new ConfigError(`yaml: line ${diagnostic.line}: ${error.message}`, [diagnostic]);
  }
}

/** Variables that are not set become nothing, which is seldom meant: say so, except in comments. */
function warnOfUnset(decoder: Decoder, path: string, source: string, expansion: Expansion): void {
  for (const reference of expansion.references) {
    if (!reference.unset || inComment(source, reference.sourceStart)) continue;
    const diagnostic = diagnosticAt(unsetMessage(reference), path, source, reference.sourceStart);
    decoder.warnings.push({ ...diagnostic, unsetVariable: reference.name });
  }
}

function unsetMessage({ name }: EnvReference): string {
  if (/^[^A-Za-z_{]$/.test(name)) {
    return `$${name} is read as a variable that is not set and vanishes: there is no escape for $, use -no-expand-env or put the value in a variable`;
  }
  const shown = /^\w+/.exec(name)?.[0] ?? '';
  if (shown !== name) return `\${${shown}…} vanishes: only plain \${NAME} is expanded, without defaults`;
  return `environment variable ${name} is not set: nothing takes its place`;
}

/** Whether a `#` that starts a comment stands before `offset` in its line. Quotes are followed within the line only. */
function inComment(source: string, offset: number): boolean {
  const before = source.slice(source.lastIndexOf('\n', offset - 1) + 1, offset);
  return /^(?:[^"'#]|"(?:[^"\\]|\\.)*"|'[^']*'|(?<=\S)#)*?(?<!\S)#/.test(before);
}

function resolveConfig(path: string, root: Section, decoder: Decoder, around: Surroundings): Config {
  const logging = resolveLogging(root.section('logging'), decoder);
  const fail = (message: string, offset: number): ConfigError =>
    new ConfigError(message, [decoder.at(message, offset)], logging);
  const offsets = new Map<DatabaseOptions | ReplicaOptions, number>();
  const databases = root.sections('dbs').map((section) => {
    if (section === undefined) throw fail('database is empty in config', root.startOf('dbs'));
    const replicas: ReplicaOptions[] = [];
    const database = resolveDatabase(section, replicas, around, fail);
    offsets.set(database, section.start);
    for (const item of section.sections('replicas')) {
      if (item === undefined) throw fail('replica is empty in config', section.startOf('replicas'));
      const replica = resolveReplica(item, {
        ...around,
        databasePath: database.path,
        accessKeyId: root.string('access-key-id'),
        secretAccessKey: root.string('secret-access-key'),
        fail,
        warn: (message, offset) => decoder.warn(message, offset),
      });
      offsets.set(replica, item.start);
      replicas.push(replica);
    }
    return database;
  });
  const locate = (option: DatabaseOptions | ReplicaOptions, message: string): Diagnostic | undefined => {
    const offset = offsets.get(option);
    return offset === undefined ? undefined : decoder.at(message, offset);
  };
  const clash = findLocationClash(databases);
  if (clash !== undefined) throw fail(clash.message, offsets.get(clash.option) ?? 0);
  const shutdownTimeoutMs = root.durationMs('shutdown-timeout');
  if (shutdownTimeoutMs <= 0) {
    const shown = formatDuration(shutdownTimeoutMs);
    throw fail(`shutdown-timeout must be positive, not ${shown}`, root.startOf('shutdown-timeout'));
  }
  const maxConcurrentRequests = root.int('max-concurrent-requests');
  if (maxConcurrentRequests < 1) {
    throw fail('max-concurrent-requests must be positive', root.startOf('max-concurrent-requests'));
  }
  return {
    path,
    addr: root.string('addr'),
    exec: root.string('exec'),
    logging,
    socket: resolveSocket(root.section('socket'), around, fail),
    heartbeat: resolveHeartbeat(root, fail),
    shutdownTimeoutMs,
    maxConcurrentRequests,
    databases,
    warnings: decoder.warnings.toSorted(inFileOrder),
    locate,
  };
}

function resolveDatabase(
  section: Section,
  replicas: readonly ReplicaOptions[],
  around: Surroundings,
  fail: (message: string, offset: number) => Error,
): DatabaseOptions {
  const path = section.string('path');
  if (path === '') throw fail('database path required', section.startOf('path'));
  const metaPath = section.string('meta-path');
  return {
    path: expandPath(path, around),
    ...(metaPath === '' ? {} : { metaPath: expandPath(metaPath, around) }),
    monitorIntervalMs: section.durationMs('monitor-interval'),
    checkpointIntervalMs: section.durationMs('checkpoint-interval'),
    minCheckpointPageCount: section.int('min-checkpoint-page-count'),
    maxCheckpointPageCount: section.int('max-checkpoint-page-count'),
    replicas,
  };
}

const LEVELS: ReadonlyMap<string, LogLevel> = new Map([
  ['DEBUG', 'DEBUG'],
  ['WARN', 'WARN'],
  ['WARNING', 'WARN'],
  ['ERROR', 'ERROR'],
]);

function resolveLogging(section: Section | undefined, decoder: Decoder): LoggingOptions {
  if (section === undefined) return { level: 'INFO', type: 'text', stderr: false };
  const type = section.string('type') === '' ? 'text' : section.string('type');
  if (type !== 'text' && type !== 'json') {
    const message = `unknown logging type ${JSON.stringify(type)}: use text or json`;
    throw new ConfigError(message, [decoder.at(message, section.startOf('type'))]);
  }
  const level = LEVELS.get(section.string('level').toUpperCase()) ?? 'INFO';
  return { level, type, stderr: section.bool('stderr') ?? false };
}
