/**
 * What the drivers that speak HTTP read out of the errors of their SDKs, without trusting the shape of what was
 * thrown. Each driver makes its own messages of it.
 */

import { printable } from '../base/printable.ts';
import type { ErrorCode } from '../base/errors.ts';

/** Node's codes of a connection that failed or broke; certificate and protocol faults are told apart below. */
const NETWORK = /^(E(CONN|HOST|NET|PIPE|TIMEDOUT|AI_|ADDR)|ENOTFOUND|ERR_STREAM_PREMATURE_CLOSE|ERR_SOCKET)/;
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|ERR_TLS/;
const NOT_HTTP = /^(HPE_|EPROTO|ERR_SSL)/;

/** Why there was no answer: the other side speaks another protocol, is not trusted, or cannot be reached. */
export type ConnectionFault = 'protocol' | 'certificate' | 'network';

/** What a code of Node's says of a connection; undefined when it is about something else. */
export function connectionFault(code: string): ConnectionFault | undefined {
  if (NOT_HTTP.test(code)) return 'protocol';
  if (CERTIFICATE.test(code)) return 'certificate';
  return NETWORK.test(code) ? 'network' : undefined;
}

/** What an error of ours says beside the operation. */
export interface Explanation {
  readonly code: ErrorCode;
  /** What is wrong and what to do. */
  readonly advice: string;
}

/** What a driver's messages say of its store. */
export interface HttpPlace {
  /** For example `bucket "b" at https://…`. */
  readonly name: string;
  /** Whose certificate it is, for example `https://… for bucket "b"`. */
  readonly server: string;
  /** The keys to check when it cannot be reached, for example `endpoint, region`. */
  readonly keys: string;
  /** What else than to check the endpoint helps when the certificate is not trusted. */
  readonly trust?: string;
}

/** Explains a request that got no whole answer, by Node's code for it. @param detail what to show of it */
export function explainNoAnswer(code: string, detail: string, place: HttpPlace): Explanation {
  const { name, server, keys, trust } = place;
  switch (connectionFault(code)) {
    case 'protocol':
      return {
        code: 'config',
        advice: `${name} does not speak the endpoint's protocol: check endpoint, http or https (${withoutOpenSsl(detail)})`,
      };
    case 'certificate': {
      const check = trust === undefined ? 'check endpoint' : `check endpoint, or ${trust}`;
      return { code: 'config', advice: `the certificate of ${server} is not trusted: ${check} (${detail})` };
    }
    case 'network':
      return {
        code: 'unavailable',
        advice: `cannot reach ${name}: check ${keys} and the network (${detail})`,
      };
    case undefined:
      return { code: 'io', advice: `request to ${name} failed (${detail})` };
  }
}

/** OpenSSL's reason, without the places in its source that stand around it. */
function withoutOpenSsl(detail: string): string {
  return detail.replace(/(?:write |read )?\w+ [0-9A-F]+:error:[0-9A-F]+:[^:]*:[^:]*:([^:]*):.*$/s, '$1');
}

/** Whether a status says that the same request may succeed later. */
export function isPassingStatus(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501);
}

/** Reads an unknown value's property without trusting its shape. */
export function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** A connection that tried several addresses fails with an AggregateError: its first error tells more. */
export function firstCause(error: unknown): unknown {
  const errors = property(error, 'errors');
  return Array.isArray(errors) && errors.length > 0 ? errors[0] : error;
}

/** One line, of a bounded length, without any of `secrets` as they are and as a URL or a header holds them, and without what commands a terminal. */
export function redacted(text: string, secrets: readonly string[]): string {
  let shown = text.replaceAll(/\s+/g, ' ').trim();
  for (const secret of secrets) {
    if (secret === '') continue;
    const base64 = Buffer.from(secret).toString('base64').replace(/=+$/, '');
    for (const form of [secret, encodeURIComponent(secret), base64])
      shown = shown.replaceAll(form, '[redacted]');
  }
  shown = printable(shown);
  return shown.length > 200 ? `${shown.slice(0, 200)}…` : shown;
}

/** A header's Retry-After, seconds or a date; undefined when absent or senseless. */
export function readRetryAfterMs(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value.trim())) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}
