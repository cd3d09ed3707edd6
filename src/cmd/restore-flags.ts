/** The flags of `restore`, and what they ask for. */

import type { RestoreRequest } from '../engine/restore.ts';
import { LitestreamError } from '../base/errors.ts';
import { parseMode, parseOwner } from './access-flags.ts';
import { CONFIG_FLAGS, DATABASE_FLAG } from './command.ts';
import type { CommandArguments } from './command.ts';
import type { BoolFlag, FlagSpec, StringFlag } from './flags.ts';
import { parseTimestamp } from './timestamp.ts';

/** A remote store takes more at once: it says how many. */
export const LOCAL_PARALLELISM = 8;
const INTEGRITY_CHECKS = ['none', 'quick', 'full'] as const;

export const RESTORE_FLAGS: typeof CONFIG_FLAGS &
  typeof DATABASE_FLAG & {
    readonly o: StringFlag;
    readonly replica: StringFlag;
    readonly generation: StringFlag;
    readonly index: FlagSpec & { readonly kind: 'index' };
    readonly timestamp: StringFlag;
    readonly all: BoolFlag;
    readonly 'if-db-not-exists': BoolFlag;
    readonly 'if-replica-exists': BoolFlag;
    readonly parallelism: FlagSpec & { readonly kind: 'int' };
    readonly force: BoolFlag;
    readonly 'no-other-users': BoolFlag;
    readonly 'allow-plaintext': BoolFlag;
    readonly 'best-effort': BoolFlag;
    readonly 'integrity-check': StringFlag;
    readonly mode: StringFlag;
    readonly owner: StringFlag;
    readonly 'dry-run': BoolFlag;
    readonly json: BoolFlag;
  } = {
  ...CONFIG_FLAGS,
  ...DATABASE_FLAG,
  o: {
    kind: 'string',
    placeholder: 'PATH',
    help: 'Where to write the database; nothing may be there yet. Default: where it was.\nNeeded with a replica URL.',
  },
  replica: {
    kind: 'string',
    placeholder: 'NAME',
    help:
      'Restores from this replica. Default: the one with the newest data, the others standing\n' +
      'in for what is missing or damaged in it.',
  },
  generation: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Restores this generation. Default: the one with the newest data.',
  },
  index: {
    kind: 'index',
    placeholder: 'HEX',
    help: 'Restores up to and including this WAL index, in hexadecimal as in object names\n(`litestream wal` prints decimal). Default: the last one.',
  },
  timestamp: {
    kind: 'string',
    placeholder: 'TIME',
    help:
      'Restores what was committed up to this time: 2000-01-01T00:00:00Z or\n' +
      '2000-01-01T02:00:00.5+02:00, "2000-01-01 02:00:00" in local time, or "2h30m ago".\n' +
      'Default: the latest. `litestream timeline` lists what can be restored.',
  },
  all: {
    kind: 'bool',
    help:
      'Restores every database of the config file, to the same moment: none is put in place\n' +
      'before all of them are whole.',
  },
  'if-db-not-exists': {
    kind: 'bool',
    help: 'Does nothing, with exit code 0, when the output is there already.',
  },
  'if-replica-exists': {
    kind: 'bool',
    help: 'Does nothing, with exit code 0, when there is no backup to restore.',
  },
  parallelism: {
    kind: 'int',
    placeholder: 'N',
    help: `How many objects to download at once. Default: 32, from a folder or over SFTP ${LOCAL_PARALLELISM}.`,
  },
  force: {
    kind: 'bool',
    help:
      'Replaces a database that is there, unless a process has it open; a running replicate\n' +
      'lets go of it and takes up the new one. The old one is kept beside it, with a time\n' +
      'added to its name. Left-over -wal, -shm and -journal files beside the output, which\n' +
      'SQLite would replay over it, are renamed.',
  },
  'no-other-users': {
    kind: 'bool',
    help:
      'With -force, on a disk that other machines may use as well (NFS, SMB, FUSE, virtiofs):\n' +
      'says that nothing has the database open, which locks cannot tell there.',
  },
  'allow-plaintext': {
    kind: 'bool',
    help:
      'With age.identities, also reads generations that are not encrypted: those from before\n' +
      'encryption was turned on.',
  },
  'best-effort': {
    kind: 'bool',
    help:
      'Where an object is missing or damaged and no replica has another one, restores what\n' +
      'comes before it and says what is lost, in place of failing.',
  },
  'integrity-check': {
    kind: 'string',
    placeholder: 'none|quick|full',
    help:
      'Has SQLite check the result before it is put in place. Default: none; the checksums of\n' +
      'the objects are always checked.',
  },
  mode: {
    kind: 'string',
    placeholder: 'OCTAL',
    help:
      'Permissions of the database, such as 640. Default: those of the one that is replaced,\n' +
      'else 600, or 660 where the group may write to the folder.',
  },
  owner: {
    kind: 'string',
    placeholder: 'USER[:GROUP]',
    help:
      'Owner of the database, by name or number. Default: that of the one that is replaced,\n' +
      'else of the folder, as far as this user may give files away.',
  },
  'dry-run': {
    kind: 'bool',
    help:
      'Writes nothing: prints what would be restored from which objects, their sizes and the\n' +
      'disk that is needed. Exit code 1 when something is in the way.',
  },
  json: {
    kind: 'bool',
    help:
      'Prints what was restored, or would be with -dry-run, as a JSON array with an object for\n' +
      'each database; the log goes to standard error.',
  },
};

export type RestoreFlags = CommandArguments<typeof RESTORE_FLAGS>['flags'];

/** What does not depend on the database. */
export type Wanted = Pick<
  RestoreRequest,
  | 'generation'
  | 'index'
  | 'timestamp'
  | 'bestEffort'
  | 'force'
  | 'noOtherUsers'
  | 'integrityCheck'
  | 'mode'
  | 'owner'
>;

/** @throws LitestreamError 'usage' */
export function wantedOf(flags: RestoreFlags): Wanted {
  const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text);
  const time = given(flags.timestamp);
  const timestamp = time === undefined ? undefined : parseTimestamp(time);
  if (timestamp !== undefined && flags.index !== undefined) {
    throw new LitestreamError('usage', 'cannot specify index & timestamp to restore');
  }
  const check = given(flags['integrity-check']);
  const integrityCheck = INTEGRITY_CHECKS.find((known) => known === check);
  if (check !== undefined && integrityCheck === undefined) {
    throw new LitestreamError('usage', `invalid -integrity-check "${check}": none, quick or full`);
  }
  return {
    generation: given(flags.generation),
    index: flags.index,
    timestamp,
    bestEffort: flags['best-effort'] === true,
    force: flags.force === true,
    noOtherUsers: flags['no-other-users'] === true,
    integrityCheck,
    mode: flags.mode === undefined ? undefined : parseMode(flags.mode),
    owner: flags.owner === undefined ? undefined : parseOwner(flags.owner),
  };
}
