/** One database to be restored by the command: where to, from which stores, and what is printed of it. */

import { stat } from 'node:fs/promises';
import { formatBytes } from '../base/byte-size.ts';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { RestorePreview } from '../engine/restore-preview.ts';
import type { RestoreProgress, RestoreRequest, RestoreResult } from '../engine/restore.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { CommandContext } from './context.ts';
import { LOCAL_PARALLELISM, type RestoreFlags, type Wanted } from './restore-flags.ts';
import { formatTable, formatTime } from './table.ts';
import { type Target, replicaNotFound } from './target.ts';

export interface RestoreJob {
  /** Of the config; null for a replica URL. */
  readonly database: string | null;
  readonly request: RestoreRequest;
  readonly logger: Logger;
  readonly close: () => Promise<void>;
}

export interface JobOptions {
  readonly target: Target;
  readonly outputPath: string;
  readonly flags: RestoreFlags;
  readonly wanted: Wanted;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly onProgress: ((progress: RestoreProgress) => void) | undefined;
}

/** Opens the stores. The job must be closed. */
export async function openJob(context: CommandContext, options: JobOptions): Promise<RestoreJob> {
  const { target, outputPath, flags, wanted, signal, logger, onProgress } = options;
  const { database } = target;
  const here = database?.path === outputPath ? database : { path: outputPath, metaPath: undefined };
  const { findReplicate } = await import('../control/running-replicate.ts');
  const replicated = wanted.force === true ? await findReplicate(here) : {};
  const replicas = await openReplicas(context, target, flags);
  const concurrency = replicas.map(({ store }) => store.capabilities.concurrency);
  return {
    database: database?.path ?? null,
    request: {
      ...wanted,
      ...replicated,
      replicas,
      outputPath,
      parallelism: Math.max(1, flags.parallelism ?? Math.max(LOCAL_PARALLELISM, ...concurrency)),
      signal,
      logger,
      ...(onProgress === undefined ? {} : { onProgress }),
    },
    logger,
    close: async () => {
      await Promise.all(replicas.map(({ store }) => store.close()));
    },
  };
}

/** The stores to restore from. A replica that is not there is no backup, as in v0.3.13, but said so. */
async function openReplicas(
  context: CommandContext,
  { database, replicas }: Target,
  { replica: name, 'allow-plaintext': allowPlaintext }: RestoreFlags,
): Promise<{ name: string; store: ObjectStore }[]> {
  const { openStore } = await import('../storage/registry.ts');
  const all = database === undefined || name === undefined || name === '';
  const selected = all ? replicas : replicas.filter((replica) => replica.name === name);
  if (!all && selected.length === 0) context.logger.warn(replicaNotFound(name, database.path).message);
  const warn = (message: string): void => context.logger.warn(message);
  return Promise.all(
    selected.map(async ({ name, store: config }) => {
      const { encryption } = config;
      const lenient = allowPlaintext === true && encryption !== undefined;
      const read = lenient ? { ...config, encryption: { ...encryption, allowPlaintext } } : config;
      return { name, store: await openStore(read, { warn }) };
    }),
  );
}

/**
 * Whether a database is there.
 * @throws LitestreamError 'exists' for a folder, a device or the like, which no application can open: Docker makes a folder
 *   in the place of a file that is mounted and not there; or when it cannot be told
 */
export async function exists(path: string): Promise<boolean> {
  const stats = await stat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `look at ${path}`);
  });
  if (stats === undefined || stats.isFile()) return stats !== undefined;
  throw new LitestreamError(
    'exists',
    `${path} is in the place of the database and is not a file: move it away`,
  );
}

/** One of a -json array. Times are in ISO 8601, sizes in bytes. */
export interface RestoreReport {
  readonly database: string | null;
  readonly output: string;
  /** `exists` and `no-backup` are those of -if-db-not-exists and -if-replica-exists. */
  readonly result: 'restored' | 'planned' | 'exists' | 'no-backup' | 'failed' | 'not-restored';
  readonly [detail: string]: unknown;
}

export function reportOf({ database, request }: RestoreJob, result: RestoreResult): RestoreReport {
  const { replica, position, committedAt, sizeBytes, keptPath, loss } = result;
  return {
    database,
    output: request.outputPath,
    result: 'restored',
    replica,
    ...position,
    committed_at: committedAt ?? null,
    size: sizeBytes,
    old_database: keptPath ?? null,
    lost: loss ?? null,
  };
}

export function planReportOf({ database, request }: RestoreJob, preview: RestorePreview): RestoreReport {
  const { plan, obstacle, committedAt, downloadBytes, databaseBytes, freeBytes } = preview;
  return {
    database,
    output: request.outputPath,
    result: 'planned',
    obstacle: obstacle ?? null,
    replica: plan.replica,
    generation: plan.generation,
    min_index: plan.snapshot.index,
    max_index: plan.indexMax,
    end_offset: plan.endOffset ?? null,
    committed_at: committedAt ?? null,
    download_size: downloadBytes,
    database_size: databaseBytes ?? null,
    free_size: freeBytes,
    warnings: plan.warnings,
    lost: plan.loss?.failure.message ?? null,
    objects: [plan.snapshot, ...plan.segments].map((object) => ({
      replica: plan.sources.get(object) ?? plan.replica,
      key: object.key,
      size: object.sizeBytes,
      created: object.createdAt,
    })),
  };
}

/** A plan for people. */
export function describePlan({ request }: RestoreJob, preview: RestorePreview): string {
  const { plan, obstacle, committedAt, downloadBytes, databaseBytes, freeBytes } = preview;
  const { snapshot, segments, generation, indexMax } = plan;
  const facts: (readonly [string, string])[] = [
    ['output', request.outputPath],
    ['replica', plan.replica],
    ['generation', generation],
    ['state', `of ${committedAt?.toISOString() ?? 'a time that the objects do not tell'}`],
    ['objects', `1 snapshot and ${segments.length} segments, indexes ${snapshot.index} to ${indexMax}`],
    ['download', formatBytes(downloadBytes)],
    [
      'disk',
      `${databaseBytes === undefined ? 'unknown' : `about ${formatBytes(databaseBytes)}`} needed, ${formatBytes(freeBytes)} free`,
    ],
    ...plan.warnings.map((warning) => ['warning', warning] as const),
    ...(plan.loss
      ? [
          [
            'lost',
            `everything from index ${plan.loss.index}, offset ${plan.loss.offset} on: ${plan.loss.failure.message}`,
          ] as const,
        ]
      : []),
    ...(obstacle === undefined ? [] : [['in the way', obstacle] as const]),
  ];
  const lines = facts.map(([name, value]) => `${name.padEnd(12)}${value}\n`).join('');
  const rows = [snapshot, ...segments].map((object) => [
    plan.sources.get(object) ?? plan.replica,
    object.key,
    String(object.sizeBytes),
    formatTime(object.createdAt),
  ]);
  return `${lines}\n${formatTable(['replica', 'object', 'size', 'created'], rows)}`;
}

/** What a restore of several must not be given. @throws LitestreamError 'usage' */
export function refuseWithAll(flags: RestoreFlags, positionals: readonly string[]): void {
  const single = (['o', 'generation', 'index'] as const).find((name) => flags[name] !== undefined);
  if (single !== undefined) throw new LitestreamError('usage', `cannot specify -${single} with -all`);
  if (positionals.length > 0) throw new LitestreamError('usage', 'cannot specify a database with -all');
}
