/** What the deployment files of `init` have in common: where things are on the machine that replicates. */

import { posix } from 'node:path';
import type { Variable } from './providers.ts';

export interface Deployment {
  /** Of the project: safe in names of volumes, units and Kubernetes objects. */
  readonly name: string;
  /** The image with litestream in it. */
  readonly image: string;
  /** The config file in the project. */
  readonly configFile: string;
  /** The project on the machine that replicates, absolute. */
  readonly root: string;
  /** All absolute there, in the order of the config. */
  readonly databases: readonly string[];
  /** Names that the application's volumes have already, by folder. */
  readonly volumes: ReadonlyMap<string, string>;
  readonly variables: readonly Variable[];
  /** How the application is started. */
  readonly command: string;
  /** Who runs it; undefined: root. */
  readonly user: string | undefined;
}

/** Seconds that a container or a unit gets to stop in: more than shutdown-timeout. */
export const STOP_SECONDS = 20;

export interface Volume {
  readonly folder: string;
  /** Of the folder, below the root: in small letters, digits and dashes. */
  readonly name: string;
}

/** A volume for each folder with databases. */
export function volumesOf({ databases, root }: Deployment): Volume[] {
  const folders = [...new Set(databases.map((path) => posix.dirname(path)))];
  return folders.map((folder) => {
    const words = posix
      .relative(root, folder)
      .toLowerCase()
      .match(/[a-z0-9]+/g) ?? ['data'];
    return { folder, name: words.join('-') };
  });
}

/** Brings back what is missing, before the application makes an empty database. With several databases, all of them. */
export function restoreCommands(databases: readonly string[], flags: readonly string[] = []): string[] {
  const words = ['litestream', 'restore', ...flags, '-if-db-not-exists', '-if-replica-exists'];
  return databases.map((path) => [...words, path].map(shellWord).join(' '));
}

/** `text` as one word of a shell. */
export function shellWord(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
