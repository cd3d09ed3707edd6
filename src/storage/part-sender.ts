/** Sends the parts of one body: a few in flight at once, each tried again by itself, in bounded memory. */

import { linkSignals, throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError } from '../base/errors.ts';
import type { PutOptions } from './object-store.ts';
import { MAX_PARTS } from './parts.ts';
import type { Part } from './parts.ts';
import { retrying } from './retry.ts';

/** Attempts for a part, or for the end of an upload: the body cannot be had again, so it is worth some patience. */
export const BODY_ATTEMPTS = 5;

/**
 * Parts of one body in flight at once, where the user says nothing: over a round trip of 100 ms, what a fast line takes.
 * One more is in memory than are in flight.
 */
export const PARTS_AT_ONCE = 12;

/**
 * Parts of all bodies in flight at once: many first snapshots at a time must not need the memory of all. Beyond that, a
 * body has one in flight.
 */
const PARTS_IN_TOTAL = 24;
let partsInFlight = 0;

export interface SendOptions {
  /** The operation and its object, for messages. */
  readonly what: string;
  /** Parts in flight at once; one more is held in memory while they are. */
  readonly concurrency: number;
  readonly signal?: AbortSignal | undefined;
  /** Of the put: asked for each part but the only one that is in flight. */
  readonly spare?: PutOptions['spare'];
}

/**
 * Sends all parts with `sendPart`, which is called again after a passing failure. When one fails for good, the others
 * are cut off by the signal that they were given and nothing more is read. Nothing is under way when it ends.
 * @returns the bytes sent.
 */
export async function sendParts(
  parts: AsyncIterable<Part>,
  sendPart: (part: Part, signal: AbortSignal) => Promise<void>,
  options: SendOptions,
): Promise<number> {
  const { what, signal } = options;
  const failed = new AbortController();
  const { signal: stop, unlink } = linkSignals(signal, failed.signal);
  const sending = new Set<Promise<void>>();
  let sizeBytes = 0;
  let failure: { error: unknown } | undefined;
  const fail = (error: unknown): void => {
    failure ??= { error };
    failed.abort(error);
  };
  const send = async (part: Part): Promise<void> => {
    if (part.number > MAX_PARTS) {
      throw new LitestreamError('unsupported', `${what}: larger than the limit of ${MAX_PARTS} parts`);
    }
    await retrying(() => sendPart(part, stop), { attempts: BODY_ATTEMPTS, signal: stop });
    sizeBytes += part.data.length;
    part.release?.();
  };
  try {
    for await (const part of parts) {
      // Reading on only when a part has left bounds what is held in memory.
      let release: (() => void) | undefined;
      while (sending.size > 0 && (release = placeBeside(sending.size, options)) === undefined) {
        await Promise.race(sending);
      }
      if (stop.aborted) release?.();
      throwIfAborted(stop);
      partsInFlight++;
      const sent = send(part)
        .catch(fail)
        .finally(() => {
          partsInFlight--;
          release?.();
          sending.delete(sent);
        });
      sending.add(sent);
    }
  } catch (error) {
    fail(error);
  } finally {
    await Promise.all(sending);
    unlink();
  }
  throwIfAborted(signal);
  if (failure !== undefined) throw failure.error;
  return sizeBytes;
}

/** For one more part beside the `count` of the same body that are in flight; undefined when there is none now. */
function placeBeside(count: number, { concurrency, spare }: SendOptions): (() => void) | undefined {
  // Whoever asks for more parts of one body than that may have them.
  if (count >= concurrency || partsInFlight >= Math.max(PARTS_IN_TOTAL, concurrency)) return undefined;
  return spare === undefined ? () => undefined : spare();
}
