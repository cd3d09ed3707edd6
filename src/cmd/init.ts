/** `litestream init`: writes a config file for the databases of a project, and prints a deployment file for them. */

import { existsSync, promises as fs } from 'node:fs';
import { userInfo } from 'node:os';
import { isAbsolute, posix, resolve } from 'node:path';
import { parseByteSize } from '../base/byte-size.ts';
import { writeFileDurably } from '../base/durable-file.ts';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import { JSON_FLAG, defineCommand } from './command.ts';
import type { Command } from './command.ts';
import type { CommandContext } from './context.ts';
import type { FlagValues } from './flags.ts';
import { configText } from './init/config-text.ts';
import { DEPLOYMENTS, type DeploymentKind, type DeploymentName } from './init/deployments.ts';
import { discover } from './init/discover.ts';
import { planDatabases } from './init/plan.ts';
import { readProject, type Project } from './init/project.ts';
import { type Answers, type Provider, PROVIDERS, variablesOf } from './init/providers.ts';
import { chooseProvider, completeAnswers, terminal } from './init/questions.ts';
import { type Outcome, jsonOf, summary } from './init/summary.ts';

const FLAGS = {
  provider: {
    kind: 'string',
    placeholder: 'NAME',
    help:
      `Where backups go: ${PROVIDERS.slice(0, 8)
        .map(({ name }) => name)
        .join(', ')},\n` +
      `${PROVIDERS.slice(8)
        .map(({ name }) => name)
        .join(', ')}. Default: asks on a terminal, else aws.`,
  },
  bucket: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Name of the bucket. Default: taken from LITESTREAM_REPLICA_BUCKET when replicating.',
  },
  region: { kind: 'string', placeholder: 'NAME', help: 'Region of the bucket.' },
  endpoint: { kind: 'string', placeholder: 'URL', help: 'Server, when the provider has one of your own.' },
  'account-id': {
    kind: 'string',
    placeholder: 'ID',
    help: 'Account of Cloudflare R2: 32 hexadecimal digits.',
  },
  path: {
    kind: 'string',
    placeholder: 'PREFIX',
    help: 'Folder for all databases in the bucket. Default: the name of the project.',
  },
  root: {
    kind: 'string',
    placeholder: 'FOLDER',
    help:
      'Where the project is on the machine that replicates, such as /rails: put before relative\n' +
      'paths. Default: /rails or /app with -kamal, -docker and -k8s; else paths stay relative, and\n' +
      'litestream is started in the project.',
  },
  env: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Environment in config/database.yml. Default: production',
  },
  size: {
    kind: 'string',
    placeholder: 'SIZE',
    help: 'Such as 500MB or 2GiB: for the estimate, of databases that are not on this machine.',
  },
  o: {
    kind: 'string',
    placeholder: 'PATH',
    help:
      'The config file to write; - for standard output. Default: config/litestream.yml in a Rails\n' +
      'project, litestream.yml elsewhere.',
  },
  force: { kind: 'bool', help: 'Replaces a config file that is there.' },
  kamal: { kind: 'bool', help: 'Prints an accessory for config/deploy.yml of Kamal.' },
  systemd: { kind: 'bool', help: 'Prints a systemd unit.' },
  docker: { kind: 'bool', help: "Prints lines for the application's Dockerfile." },
  k8s: { kind: 'bool', help: 'Prints a Kubernetes StatefulSet with a sidecar.' },
  procfile: { kind: 'bool', help: 'Prints a Procfile.' },
  image: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Image of litestream in deployment files. Default: litestream-ts',
  },
  exec: {
    kind: 'string',
    placeholder: 'COMMAND',
    help: 'How the application is started, in deployment files. Default: as the project says.',
  },
  json: { ...JSON_FLAG.json, help: 'Prints an object: config, provider, source, databases and variables.' },
} as const;

type Flags = FlagValues<typeof FLAGS>;

export const command: Command = defineCommand({
  name: 'init',
  description:
    'Finds the SQLite databases of the project in this folder and writes a config file for them: those\n' +
    "of Rails' config/database.yml, else of the env files of Prisma or Drizzle, else every one below.\n" +
    'Intervals and retention follow from what a database is for, told by its name: primary, cache,\n' +
    'queue or cable. Secrets stay variables. With a deployment flag it prints that file as well, and\n' +
    'leaves a config that is there.\n\n' +
    'Exit code: 0 when the config is written (or kept, with a deployment flag), else 1.',
  forms: ['[flags] [DB_PATH...]'],
  flags: FLAGS,
  examples: [
    { what: 'A Rails application with Cloudflare R2', line: 'litestream init -provider r2 -account-id ID' },
    { what: 'The accessory for Kamal', line: 'litestream init -provider hetzner -region fsn1 -kamal' },
    { what: 'A database that is not there yet', line: 'litestream init -provider aws data/app.db' },
  ],
  async run(context, { flags, positionals }) {
    const kind = outputOf(context, flags);
    const project = await readProject(context.cwd);
    const config = flags.o ?? project.configFile;
    const kept = config !== '-' && flags.force !== true && existsSync(resolve(project.folder, config));
    if (kept && kind === undefined) throw alreadyThere(config);
    const search = {
      folder: project.folder,
      env: context.env,
      note: (message: string) => context.printError(`note: ${message}\n`),
    };
    const { databases: found, source } = await discover(search, positionals, flags.env ?? 'production');
    const { provider, answers } = await ask(flags);
    const databases = planDatabases(found, {
      root: flags.root ?? (kind?.mounts === true ? kind.root(project) : ''),
      prefix: flags.path ?? project.name,
      assumedSizeBytes: flags.size === undefined ? undefined : parseByteSize(flags.size),
    });
    const text = configText(databases, provider, answers);
    if (config === '-') context.print(text);
    else if (!kept) await writeConfig(resolve(project.folder, config), text, flags.force === true);
    const outcome: Outcome = {
      config,
      written: !kept,
      provider,
      source,
      databases,
      variables: variablesOf(provider, answers),
    };
    if (context.output === 'json') context.print(`${JSON.stringify(jsonOf(outcome), null, 2)}\n`);
    else if (kind === undefined && config !== '-') context.print(summary(outcome));
    else context.printError(summary(outcome));
    if (kind !== undefined) printDeployment(context, { kind, project, flags, outcome });
    return 0;
  },
});

/** What standard output is for: one thing only. Undefined: no deployment file. */
function outputOf(context: CommandContext, flags: Flags): DeploymentKind | undefined {
  const names = (Object.keys(DEPLOYMENTS) as DeploymentName[]).filter((name) => flags[name] === true);
  const asked = names.map((name) => `-${name}`);
  if (flags.json === true) asked.push('-json');
  if (flags.o === '-') asked.push('-o -');
  if (asked.length > 1) {
    throw new LitestreamError('usage', `cannot print several things at once: ${asked.join(', ')}`);
  }
  if (flags.json === true) context.output = 'json';
  const [name] = names;
  return name === undefined ? undefined : DEPLOYMENTS[name];
}

async function ask(flags: Flags): Promise<{ provider: Provider; answers: Answers }> {
  const person = terminal();
  try {
    const provider = await chooseProvider(flags.provider, person?.ask);
    const given: Answers = {
      bucket: flags.bucket,
      region: flags.region,
      endpoint: flags.endpoint,
      'account-id': flags['account-id'],
    };
    return { provider, answers: await completeAnswers(provider, given, person?.ask) };
  } finally {
    person?.close();
  }
}

/** Whole or not at all, and never over a file that came up meanwhile unless `replace`. */
async function writeConfig(path: string, text: string, replace: boolean): Promise<void> {
  try {
    if (replace) await writeFileDurably(path, text, { mode: 0o644 });
    else await fs.writeFile(path, text, { flag: 'wx', mode: 0o644 });
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw alreadyThere(path);
    throw wrapError(error, `write config ${path}`);
  }
}

function alreadyThere(path: string): LitestreamError {
  return new LitestreamError(
    'exists',
    `config file is there already: ${path}: -force replaces it, -o PATH writes another one`,
  );
}

interface DeploymentRequest {
  readonly kind: DeploymentKind;
  readonly project: Project;
  readonly flags: Flags;
  readonly outcome: Outcome;
}

function printDeployment(
  context: CommandContext,
  { kind, project, flags, outcome }: DeploymentRequest,
): void {
  const root = flags.root ?? kind.root(project);
  const databases = outcome.databases.map(({ path }) => (isAbsolute(path) ? path : posix.join(root, path)));
  const beside = databases.find((path) => posix.dirname(path) === posix.normalize(root));
  if (kind.mounts && beside !== undefined) {
    context.printError(
      `note: ${beside} lies in the project itself, where a volume would hide the application: give it a folder of its own\n`,
    );
  }
  const deployment = {
    name: project.name,
    image: flags.image ?? 'litestream-ts',
    configFile: outcome.config,
    root,
    databases,
    volumes: project.volumes,
    variables: outcome.variables,
    command: flags.exec ?? (kind.mounts ? project.containerCommand : project.command),
    user: userInfo().uid === 0 ? undefined : userInfo().username,
  };
  context.print(kind.print(deployment));
}
