/** What a database needs of others to be followed. */

import type { Logger } from '../base/logger.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { DirectoryWatch } from './directory-watch.ts';
import type { DatabaseOptions } from './options.ts';
import type { FindStoredEnds } from './read-only-continue.ts';

export interface DatabaseParts {
  readonly options: DatabaseOptions;
  /** For the meta directory of a database in a read-only folder: see stateDirectories(). */
  readonly stateDirectories?: readonly string[] | undefined;
  readonly logger: Logger;
  readonly checkpointer: Checkpointer;
  readonly watch: DirectoryWatch;
  /** For continuing a generation of which nothing is left but in replicas. */
  readonly findStoredEnds?: FindStoredEnds | undefined;
  /** Called when this process has become the one that replicates the database, before it is opened. */
  readonly onLocked?: (() => Promise<void>) | undefined;
}
