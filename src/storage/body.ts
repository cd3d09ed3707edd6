/** Helpers for the bodies that drivers take and give: streams of bytes that can be aborted. */

import { abortedError, allowManyListeners, throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError } from '../base/errors.ts';

/**
 * The chunks of `source`, ending with an 'aborted' error as soon as the signal fires, even while the source makes us
 * wait. A source that is waiting then is told to finish, but not waited for.
 */
export async function* abortable(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (signal === undefined) {
    yield* source;
    return;
  }
  allowManyListeners(signal);
  const iterator = source[Symbol.asyncIterator]();
  let waiting = false;
  let ended = false;
  try {
    for (;;) {
      waiting = true;
      const next = await nextOrAborted(iterator, signal);
      waiting = false;
      if (next.done === true) {
        ended = true;
        return;
      }
      yield next.value;
    }
  } finally {
    if (!ended) {
      const finished = iterator.return?.();
      // A generator ends its pending next() first, which may never come: its end is its own affair then.
      if (waiting) finished?.then(undefined, () => undefined);
      else await finished;
    }
  }
}

async function nextOrAborted(
  iterator: AsyncIterator<Uint8Array>,
  signal: AbortSignal,
): Promise<IteratorResult<Uint8Array>> {
  throwIfAborted(signal);
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(abortedError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    iterator
      .next()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** What a driver knows of a body that it hands out. */
export interface ExpectedBody {
  readonly sizeBytes: number;
  /** The operation and its object, for messages. */
  readonly what: string;
  readonly signal: AbortSignal | undefined;
  /** The driver's error for what the connection threw. */
  readonly toError: (error: unknown, what: string) => LitestreamError;
}

/**
 * The chunks of a body that comes over a network: one cut short rejects with 'unavailable', naming the byte; one that
 * gives more than was announced with 'io', before that is handed out.
 */
export async function* complete(
  stream: AsyncIterable<Uint8Array>,
  { sizeBytes, what, signal, toError }: ExpectedBody,
): AsyncGenerator<Uint8Array, void, undefined> {
  let received = 0;
  try {
    for await (const chunk of abortable(stream, signal)) {
      received += chunk.length;
      if (received > sizeBytes) {
        throw new LitestreamError(
          'io',
          `${what}: the store sends more than the ${sizeBytes} bytes it announced`,
        );
      }
      yield chunk;
    }
  } catch (error) {
    throw toError(error, `${what} (at byte ${received} of ${sizeBytes})`);
  }
  if (received !== sizeBytes) {
    throw new LitestreamError('unavailable', `${what}: cut short at byte ${received} of ${sizeBytes}`);
  }
}

/** No chunks. */
// eslint-disable-next-line @typescript-eslint/require-await -- an AsyncIterable is what bodies are
export async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {
  yield* [];
}

/** One chunk as a stream. */
// eslint-disable-next-line @typescript-eslint/require-await -- an AsyncIterable is what bodies are
export async function* single(data: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  if (data.length > 0) yield data;
}

/** The whole of a stream in one piece, for small objects. */
export async function collect(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}
