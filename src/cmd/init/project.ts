/** What the folder of a project says of itself: its name, how its application starts, the volumes it has with Kamal. */

import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isRailsProject } from './discover.ts';
import { slug } from './plan.ts';
import { readTextIfThere } from './read-text.ts';

export interface Project {
  /** Absolute. */
  readonly folder: string;
  readonly rails: boolean;
  /** In small letters, digits and dashes. */
  readonly name: string;
  /** Where `init` writes, relative to the folder: where `replicate` looks. */
  readonly configFile: string;
  /** How the application is started on a server. */
  readonly command: string;
  /** The same in its container: Rails prepares the database there. */
  readonly containerCommand: string;
  /** Names of volumes by the folder that they are mounted at, from config/deploy.yml. */
  readonly volumes: ReadonlyMap<string, string>;
}

export async function readProject(folder: string): Promise<Project> {
  const rails = isRailsProject(folder);
  const kamal = await readTextIfThere(join(folder, 'config/deploy.yml'));
  const service = /^service:[ \t]*["']?([\w.-]+)/m.exec(kamal)?.[1];
  const volumes = [...kamal.matchAll(/^[ \t]*-[ \t]*["']?([\w.-]+):(\/[^"':\s]+)/gm)];
  const command = rails ? 'bin/rails server' : await startCommand(folder);
  const preparesDatabase = rails && existsSync(join(folder, 'bin/docker-entrypoint'));
  return {
    folder,
    rails,
    name: slug((service ?? basename(folder)).toLowerCase().replaceAll(/[._]+/g, '-')),
    configFile: rails ? 'config/litestream.yml' : 'litestream.yml',
    command,
    containerCommand: preparesDatabase ? 'bin/docker-entrypoint ./bin/rails server' : command,
    volumes: new Map(volumes.map(([, name = '', target = '']) => [target, name])),
  };
}

/** The start script of package.json, by itself when it is Node.js: npm in between would only delay signals. */
async function startCommand(folder: string): Promise<string> {
  const script = /"start"[ \t]*:[ \t]*"([^"\\]+)"/.exec(
    await readTextIfThere(join(folder, 'package.json')),
  )?.[1];
  if (script === undefined) return 'node server.js';
  return /^node [^&|;<>]+$/.test(script) ? script : 'npm start';
}
