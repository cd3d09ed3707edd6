/**
 * Makes the SDK's client with the settings that S3-compatible stores need: plain bodies with a Content-Length, no
 * chunked framing, the digests that the store takes. It must not know what is stored.
 */

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { GetBucketLocationCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { withoutCredentials } from '../../base/redact-url.ts';
import { limitAnswer } from '../answer-limit.ts';
import { newProxyAgents } from '../proxy-agents.ts';
import type { S3StoreConfig } from '../store-config.ts';
import { regionInError } from './errors.ts';
import type { S3Target } from './errors.ts';

/** How long the parts of a request may take. */
export interface S3Timeouts {
  /** Until a connection is made. */
  readonly connectMs: number;
  /** Without any byte moving. */
  readonly idleMs: number;
}

export const DEFAULT_TIMEOUTS: S3Timeouts = { connectMs: 10_000, idleMs: 30_000 };

const DEFAULT_REGION = 'us-east-1';

/** What messages say of the store. */
export function targetOf(config: S3StoreConfig): S3Target {
  return {
    bucket: config.bucket,
    endpoint: config.endpoint === undefined ? 'Amazon S3' : withoutCredentials(config.endpoint),
    secrets: [
      config.secretAccessKey,
      process.env['AWS_SECRET_ACCESS_KEY'],
      process.env['AWS_SESSION_TOKEN'],
    ].flatMap((secret) => secret ?? []),
  };
}

/** A client for the bucket of `config`. It connects at the first request, and looks its region up then if it must. */
export function newClient(config: S3StoreConfig, timeouts: S3Timeouts): S3Client {
  const location = new BucketRegion(config, timeouts);
  return construct(config, timeouts, () => location.find());
}

/** The region that is configured or implied, else the one that the bucket says; asked once, again after a failure. */
class BucketRegion {
  readonly #config: S3StoreConfig;
  readonly #timeouts: S3Timeouts;
  #found: Promise<string> | undefined;

  constructor(config: S3StoreConfig, timeouts: S3Timeouts) {
    this.#config = config;
    this.#timeouts = timeouts;
  }

  find(): Promise<string> {
    const { region, endpoint } = this.#config;
    if (region !== undefined) return Promise.resolve(region);
    if (endpoint !== undefined) return Promise.resolve(DEFAULT_REGION);
    if (this.#found === undefined) {
      this.#found = this.#ask();
      this.#found.catch(() => {
        this.#found = undefined;
      });
    }
    return this.#found;
  }

  async #ask(): Promise<string> {
    // In the path, the bucket can be asked from any region's address.
    const config = { ...this.#config, forcePathStyle: true };
    const client = construct(config, this.#timeouts, () => Promise.resolve(DEFAULT_REGION));
    try {
      const output = await client.send(new GetBucketLocationCommand({ Bucket: config.bucket }));
      return regionOfConstraint(output.LocationConstraint);
    } catch (error) {
      // Some answers that refuse to tell give it away.
      const region = regionInError(error);
      if (region === undefined) throw error;
      return region;
    } finally {
      client.destroy();
    }
  }
}

/** The region behind a LocationConstraint: none is the oldest region, `EU` an old name. */
function regionOfConstraint(constraint: string | undefined): string {
  if (constraint === undefined || constraint === '') return DEFAULT_REGION;
  return constraint === 'EU' ? 'eu-west-1' : constraint;
}

function construct(config: S3StoreConfig, timeouts: S3Timeouts, region: () => Promise<string>): S3Client {
  const { endpoint, accessKeyId, secretAccessKey, skipVerify } = config;
  const agents = newProxyAgents({ connectMs: timeouts.connectMs, skipVerify });
  const settings: S3ClientConfig = {
    region,
    forcePathStyle: config.forcePathStyle,
    // Retries are ours: the decorator's, and each part's.
    maxAttempts: 1,
    // Many stores know neither the newer checksums nor the framing that carries them.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // Waiting for "100 Continue" would take a fresh connection for each larger body.
    expectContinueHeader: false,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: timeouts.connectMs,
      socketTimeout: timeouts.idleMs,
      httpAgent: agents.http,
      httpsAgent: agents.https,
    }),
  };
  if (endpoint !== undefined) settings.endpoint = endpoint;
  if (accessKeyId !== undefined && secretAccessKey !== undefined) {
    settings.credentials = { accessKeyId, secretAccessKey };
  }
  const client = withoutNodeWarning(() => new S3Client(settings));
  sendDigests(client, config);
  limitAnswers(client);
  return client;
}

/**
 * The SDK warns on the standard error output that versions to come will need a newer Node. The version that we pin
 * does not, and the user of a command can do nothing about it.
 */
function withoutNodeWarning<T>(make: () => T): T {
  const name = 'AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED';
  const before = process.env[name];
  process.env[name] = 'true';
  try {
    return make();
  } finally {
    if (before === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = before;
  }
}

interface BodyRequest {
  readonly headers: Record<string, string>;
  readonly body?: string | Uint8Array;
}

/**
 * Says in the headers what a body must be. Batch deletes carry Content-MD5, which nearly every store takes, instead of a
 * CRC that older ones do not know.
 */
function sendDigests(client: S3Client, { contentMd5 = 'deletes', signPayload = true }: S3StoreConfig): void {
  client.middlewareStack.add(
    (next, context) => (args) => {
      const request = args.request as BodyRequest;
      const isDelete = context.commandName === 'DeleteObjectsCommand';
      const isUpload = ['PutObjectCommand', 'UploadPartCommand'].includes(context.commandName ?? '');
      if (request.body !== undefined) {
        if (isDelete && contentMd5 !== 'none') withoutChecksums(request.headers);
        if (contentMd5 === 'all' ? isUpload || isDelete : isDelete && contentMd5 === 'deletes') {
          request.headers['content-md5'] = createHash('md5').update(request.body).digest('base64');
        }
        if (isUpload && !signPayload) request.headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      }
      return next(args);
    },
    { step: 'build', priority: 'low', name: 'digests' },
  );
}

function withoutChecksums(headers: Record<string, string>): void {
  for (const name of Object.keys(headers)) {
    if (/^x-amz-(sdk-)?checksum/i.test(name)) Reflect.deleteProperty(headers, name);
  }
}

/** Every answer but an object's bytes is read as a whole, and kept: the SDK has no limit of its own. */
function limitAnswers(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args);
      const response = result.response as { statusCode?: number; body?: unknown };
      const isObject = context.commandName === 'GetObjectCommand' && (response.statusCode ?? 0) < 300;
      if (!isObject && response.body instanceof Readable) response.body = limitAnswer(response.body);
      return result;
    },
    // Next to the handler: before anything reads.
    { step: 'deserialize', priority: 'low', name: 'answerLimit' },
  );
}
