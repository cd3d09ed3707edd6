/** `verify()`: that what is stored can be restored and is what the database holds. */

import { redactUrl } from '../base/redact-url.ts';
import {
  type VerifyAnswer,
  verify as verifyDatabase,
  verifyAnswer,
  verifyReplicas,
} from '../control/verify.ts';
import { type LogTarget, engineLogger, logSink } from './log.ts';
import { type ReplicaSource, databaseOf, resolveConfig, resolveSource } from './source.ts';

export interface VerifyOptions extends ReplicaSource {
  /** A database of the config. Default: all of them. */
  readonly database?: string | undefined;
  /** Looks only at what the latest state is restored from, not at all objects. */
  readonly latest?: boolean | undefined;
  /** How long it may take for each database; then it is inconclusive. Default: an hour. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Default: nothing is logged. */
  readonly logger?: LogTarget | undefined;
}

/**
 * What `litestream verify -json` prints, see docs/verification.md: has the process that replicates restore what is stored, and
 * compare it with the database. Of a replica URL every object is checked. What is wrong is a result, not an error.
 * @throws LitestreamError 'config', 'usage', 'not-found', 'aborted'
 */
export async function verify(options: VerifyOptions = {}): Promise<VerifyAnswer[]> {
  const { url, database, replica, latest, timeoutMs, signal } = options;
  const { openStore } = await import('../storage/registry.ts');
  const logger = engineLogger(options.logger === undefined ? () => undefined : logSink(options.logger));
  const shared = {
    openStore: (store: Parameters<typeof openStore>[0]) => openStore(store),
    timeoutMs,
    signal,
    logger,
  };
  if (url !== undefined) {
    const { replicas } = await resolveSource(options);
    return [verifyAnswer(redactUrl(url), await verifyReplicas({ replicas, ...shared }))];
  }
  const { config } = await resolveConfig(options);
  const databases = database === undefined ? config.databases : [await databaseOf(config, options)];
  const answers: VerifyAnswer[] = [];
  for (const item of databases) {
    const depth = latest === true ? 'latest' : 'all';
    answers.push(await verifyDatabase({ database: item, replica, depth, ...shared }));
  }
  return answers;
}
