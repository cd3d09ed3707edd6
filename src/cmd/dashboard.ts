/** `litestream dashboard`: the web page of a replication that runs beside it, or of its replicas when none runs. */

import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { LitestreamError, wrapError } from '../base/errors.ts';
import type { BindAddress } from '../web/bind-address.ts';
import { CONFIG_FLAGS, defineCommand } from './command.ts';
import type { Command, CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import { onStopSignal } from './signals.ts';
import type { LocalAccess } from '../web/dashboard/local-access.ts';
import { readConfig } from './target.ts';

const DEFAULT_ADDR = '127.0.0.1:9091';

const FLAGS = {
  ...CONFIG_FLAGS,
  addr: {
    kind: 'string',
    placeholder: 'ADDR',
    help:
      `Address to listen on. Default: ${DEFAULT_ADDR}. One that others can reach is refused without\n` +
      'LITESTREAM_USERNAME and LITESTREAM_PASSWORD.',
  },
  'base-path': {
    kind: 'string',
    placeholder: 'PATH',
    help: 'What the paths of requests begin with, when a proxy does not cut it off: /litestream.',
  },
  'read-only': { kind: 'bool', help: 'Shows everything and does nothing: no restores, no downloads.' },
  title: { kind: 'string', placeholder: 'TEXT', help: 'Stands at the top of the page. Default: Litestream.' },
  logo: { kind: 'string', placeholder: 'PATH', help: 'An SVG file, shown beside the title.' },
  css: { kind: 'string', placeholder: 'PATH', help: "A style sheet, applied after the page's own." },
  footer: { kind: 'string', placeholder: 'TEXT', help: 'Stands at the end of the page.' },
} as const;

type Flags = CommandArguments<typeof FLAGS>['flags'];

export const command: Command = defineCommand({
  name: 'dashboard',
  description:
    'Serves a web page that says whether all databases are stored, how far back they can be restored, and\n' +
    'restores them to new files. It asks the running replicate, or the replicas when none runs, and never\n' +
    'opens a database. With LITESTREAM_USERNAME and LITESTREAM_PASSWORD it asks for them. Without them all\n' +
    'users of this machine may look; who wants to act opens the address that is shown in the terminal.\n' +
    'replicate serves the same page at its addr, without such an address.\n\n' +
    'Exit code: 0 when it is told to stop (SIGINT, SIGTERM), 1 when it cannot listen.',
  forms: ['[flags]'],
  flags: FLAGS,
  examples: [
    { what: 'On this machine', line: 'litestream dashboard -config /etc/litestream.yml' },
    { what: 'On a wall', line: 'litestream dashboard -read-only -title "Production"' },
  ],
  async run(context, { flags, positionals }) {
    context.output = 'log';
    if (positionals.length > 0) throw new LitestreamError('usage', 'too many arguments');
    const { parseBindAddress } = await import('../web/bind-address.ts');
    const address = parseBindAddress(flags.addr ?? DEFAULT_ADDR);
    await serveUntilStopped(context, flags, address);
    return 0;
  },
});

async function serveUntilStopped(context: CommandContext, flags: Flags, address: BindAddress): Promise<void> {
  const { credentialsOf } = await import('../web/dashboard/access.ts');
  const { createDashboard } = await import('../web/dashboard/dashboard.ts');
  const { isLoopback } = await import('../web/bind-address.ts');
  const { serve } = await import('../web/serve.ts');
  const credentials = credentialsOf(context.env);
  if (!credentials && !isLoopback(address.host)) {
    throw new LitestreamError(
      'permission',
      `${address.text} can be reached by others: set LITESTREAM_USERNAME and LITESTREAM_PASSWORD first`,
    );
  }
  const { databases } = await readConfig(context, flags);
  const { logger } = context;
  let url = '';
  const local = credentials ? undefined : await localLogin(context, (token) => `${url}login?token=${token}`);
  const dashboard = createDashboard({
    databases,
    basePath: flags['base-path'],
    auth: credentials ?? local?.access,
    readOnly: flags['read-only'],
    title: flags.title,
    footer: flags.footer,
    logo: await textOf(context, flags.logo),
    css: await textOf(context, flags.css),
    logger,
    env: context.env,
  });
  const fetch = (request: Request): Promise<Response> => dashboard.fetch(request);
  const server = await serve({ address, fetch, logger });
  const basePath = (flags['base-path'] ?? '').replace(/^\/+|\/+$/g, '');
  url = server.url + (basePath === '' ? '' : `${basePath}/`);
  // Before it says so: whoever has read that may stop it.
  const stopped = new Promise<void>((stop) => onStopSignal(() => stop()));
  logger.info('serving dashboard on', { url });
  if (flags['read-only'] !== true) local?.offer();
  await stopped;
  await dashboard.close();
  await server.close();
}

interface LocalLogin {
  readonly access: LocalAccess;
  /** Shows the address to log in at, where a terminal is. */
  offer(): void;
}

/** Who acts on a page without a password is who sees the terminal. @param addressOf the address of a token */
async function localLogin(
  context: CommandContext,
  addressOf: (token: string) => string,
): Promise<LocalLogin> {
  const { LocalAccess } = await import('../web/dashboard/local-access.ts');
  const { Logins } = await import('../web/dashboard/logins.ts');
  const logins = new Logins((token) => {
    context.showOnTerminal(
      `To act on the page, log in at (once; then the next address is shown):\n${addressOf(token)}\n`,
    );
  });
  const elsewhere = 'set LITESTREAM_USERNAME and LITESTREAM_PASSWORD where litestream dashboard is started';
  const terminal = context.showOnTerminal('');
  const hint = terminal
    ? `open the address that litestream dashboard shows in its terminal, or ${elsewhere}.`
    : `${elsewhere}, or start it in a terminal and open the address that it shows.`;
  return {
    access: new LocalAccess({ logins: terminal ? logins : undefined, hint }),
    offer() {
      if (terminal) logins.offer();
      else
        context.logger.info('the dashboard only shows: without a terminal there is no login', {
          remedy: elsewhere,
        });
    },
  };
}

async function textOf({ cwd }: CommandContext, path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(resolve(cwd, path), 'utf8');
  } catch (error) {
    throw wrapError(error, `read ${path}`);
  }
}
