/** What one `replicas` item of the file is resolved in: its surroundings, and how problems get their place. */

import { messageOf } from '../base/errors.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { Section } from './decode.ts';
import type { Surroundings } from './paths.ts';

export interface ReplicaContext extends Surroundings {
  /** Absolute path of the replica's database. */
  readonly databasePath: string;
  /** The file's global keys, for replicas that have none of their own. */
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly fail: (message: string, offset: number) => Error;
  readonly warn: (message: string, offset: number) => void;
}

/** Runs `work`; what it throws gets the place. */
export function located<T>(context: ReplicaContext, offset: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw context.fail(messageOf(error), offset);
  }
}

/** Throws in v0.3.13's words when one of `keys` stands beside a url that says the same. */
export function refuseBesideUrl(
  section: Section,
  context: ReplicaContext,
  type: string,
  keys: readonly string[],
): void {
  if (section.string('url') === '') return;
  const key = keys.find((name) => section.string(name) !== '');
  if (key !== undefined) {
    throw context.fail(`cannot specify url & ${key} for ${type} replica`, section.startOf(key));
  }
}

/** A replica's own `endpoint`, with a scheme; undefined when there is none. Throws for what is no URL of a web server. */
export function endpointOf(section: Section, context: ReplicaContext): string | undefined {
  const text = section.string('endpoint');
  if (text === '') return undefined;
  const endpoint = text.includes('://') ? text : `https://${text}`;
  if (URL.canParse(endpoint) && /^https?:/i.test(endpoint)) return endpoint;
  const shown = redactUrl(text);
  throw context.fail(`endpoint is not a url of http or https: ${shown}`, section.startOf('endpoint'));
}
