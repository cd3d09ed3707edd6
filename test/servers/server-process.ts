/** Servers as child processes: started, waited for, and ended by their own process ids. */

import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { until } from '../support/process.ts';

/** A server that runs, and what its tests must know of it (plain data: it is handed to the test's process). */
export interface RunningServer<E> {
  readonly endpoint: E;
  /** Ends it and removes what it stored. */
  stop(): Promise<void>;
}

export interface ServerCommand {
  readonly file: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Whether it can be used. @param output - all that it printed so far. */
  readonly ready: (output: string) => boolean | Promise<boolean>;
}

export interface ServerProcess {
  readonly output: () => string;
  readonly stop: () => Promise<void>;
}

const START_MS = 60_000;
const STOP_MS = 5_000;

/** Starts a server and waits until it is ready. @throws with what it printed when it ends or does not get there */
export async function startProcess({ file, args, env, ready }: ServerCommand): Promise<ServerProcess> {
  const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let end: string | undefined;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output = (output + text).slice(-20_000)));
  }
  const exited = new Promise<void>((resolve) => {
    const ended = (how: string): void => {
      end ??= how;
      resolve();
    };
    child.on('error', (error) => ended(error.message));
    child.on('exit', (code, signal) => ended(`it ended with ${signal ?? code}`));
  });
  const stop = async (): Promise<void> => {
    if (end !== undefined) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await exited;
    clearTimeout(timer);
  };
  const describe = (): string =>
    `${[file, ...args].join(' ')}: ${end ?? 'not ready'}\n${output.slice(-2000)}`;
  try {
    await until(
      () => {
        if (end !== undefined) throw new Error(describe());
        return ready(output);
      },
      { timeoutMs: START_MS, describe },
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return { output: () => output, stop };
}

/** Ports of 127.0.0.1 that were free a moment ago, for servers that cannot choose their own. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ports.push((server.address() as AddressInfo).port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Whether an HTTP server answers at `url`, whatever it says. */
export async function answers(url: string): Promise<boolean> {
  return await fetch(url).then(
    async (response) => {
      await response.arrayBuffer();
      return true;
    },
    () => false,
  );
}
