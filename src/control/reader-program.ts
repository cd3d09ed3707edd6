/** The program of reader-process.ts: reads replicas until whoever started it lets go of it, by its channel or by its end. */

import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { LitestreamError, messageOf } from '../base/errors.ts';
import type { LogAttributes, LogLevel, Logger } from '../base/logger.ts';
import { openStore } from '../storage/registry.ts';
import { type ReaderCall, type ReaderReply, type ReaderRequest, toSent } from './reader-messages.ts';
import { DirectReader } from './replica-reader.ts';

/** Of Unix: what replicates and what commits come first. */
const NICENESS = 10;

const reader = new DirectReader((config) => openStore(config));
const calls = new Map<number, { readonly controller: AbortController; readonly ended: Promise<void> }>();

/** Never resolves: when there is nobody left to read for, what was begun is taken back, and the process ends. */
export const ended: Promise<never> = new Promise<never>(() => process.once('disconnect', () => void end()));

giveWay();
// What a terminal or a service manager sends to all: it ends by its channel, and takes back what it has begun.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);
if (!process.connected) void end();
process.on('message', (request: ReaderRequest) => {
  if (request.action === 'abort') {
    calls.get(request.id)?.controller.abort();
    return;
  }
  const controller = new AbortController();
  const reading = answer(request.id, request, controller.signal).finally(() => calls.delete(request.id));
  calls.set(request.id, { controller, ended: reading });
});

async function end(): Promise<never> {
  for (const { controller } of calls.values()) controller.abort();
  await Promise.all([...calls.values()].map((call) => call.ended));
  process.exit(0);
}

/** To what replicates: with the processor, and when memory runs out. */
function giveWay(): void {
  try {
    setPriority(NICENESS);
    if (process.platform === 'linux') writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // It may be forbidden; then all are equal.
  }
}

/** Never rejects. */
async function answer(id: number, call: ReaderCall, signal: AbortSignal): Promise<void> {
  try {
    reply({ id, type: 'result', result: await read(id, call, signal) });
  } catch (error) {
    const code = error instanceof LitestreamError ? error.code : 'io';
    reply({ id, type: 'error', code, message: messageOf(error) });
  }
}

function read(
  id: number,
  call: ReaderCall,
  signal: AbortSignal,
): ReturnType<DirectReader[typeof call.action]> {
  switch (call.action) {
    case 'timeline':
      return reader.timeline(call.store, signal);
    case 'plan':
      return reader.plan(call.request, signal);
    case 'restore':
      return reader.restore(call.request, {
        signal,
        logger: new SendingLogger(id, {}),
        onProgress: (progress) => reply({ id, type: 'progress', progress }),
      });
  }
}

/** Whoever is gone needs no reply. */
function reply(message: ReaderReply): void {
  if (process.connected) process.send?.(message, () => undefined);
}

class SendingLogger implements Logger {
  readonly #id: number;
  readonly #attributes: LogAttributes;

  constructor(id: number, attributes: LogAttributes) {
    this.#id = id;
    this.#attributes = attributes;
  }

  debug(message: string, attributes?: LogAttributes): void {
    this.#send('DEBUG', message, attributes);
  }

  info(message: string, attributes?: LogAttributes): void {
    this.#send('INFO', message, attributes);
  }

  warn(message: string, attributes?: LogAttributes): void {
    this.#send('WARN', message, attributes);
  }

  error(message: string, attributes?: LogAttributes): void {
    this.#send('ERROR', message, attributes);
  }

  with(attributes: LogAttributes): Logger {
    return new SendingLogger(this.#id, { ...this.#attributes, ...attributes });
  }

  #send(level: LogLevel, message: string, attributes: LogAttributes | undefined): void {
    const all = toSent({ ...this.#attributes, ...attributes });
    reply({ id: this.#id, type: 'log', level, message, attributes: all });
  }
}
