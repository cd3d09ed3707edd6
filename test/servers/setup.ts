/** Starts all servers at once before the tests and ends them afterwards. */

import type { TestProject } from 'vitest/node';
import { messageOf } from '../../src/base/errors.ts';
import { startAzurite } from './azurite.ts';
import { startGcsEmulator } from './gcs.ts';
import { installedModules } from './npm-packages.ts';
import type { RunningServer } from './server-process.ts';
import type { Availability, Servers } from './servers.ts';
import { startSshd } from './sshd.ts';
import { startSwift } from './swift/swift.ts';

type Starters = { readonly [K in keyof Servers]: () => Promise<RunningServer<Servers[K]>> };

/** @returns what ends the servers */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  // The SDK's note on future Node versions is no result of a test.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
  const modules = installedModules();
  const starters: Starters = {
    swift: startSwift,
    azurite: async () => await startAzurite(await modules),
    gcs: async () => await startGcsEmulator(await modules),
    sshd: startSshd,
  };
  const running: RunningServer<unknown>[] = [];
  const start = async (name: keyof Servers): Promise<void> => {
    const begun = Date.now();
    const availability = await starters[name]().then(
      (server): Availability<Servers[keyof Servers]> => {
        running.push(server);
        console.log(`${name} runs, after ${((Date.now() - begun) / 1000).toFixed(1)} s`);
        return { endpoint: server.endpoint };
      },
      (error: unknown): Availability<Servers[keyof Servers]> => {
        console.error(`${name} cannot be used: ${messageOf(error)}`);
        return { unavailable: messageOf(error).split('\n', 1)[0] ?? '' };
      },
    );
    project.provide(name, availability as never);
  };
  await Promise.all((Object.keys(starters) as (keyof Servers)[]).map(start));
  return async () => {
    await Promise.all(running.map((server) => server.stop()));
  };
}
