/** The dashboard's requests: which is for whom, and what answers it. */

import { LitestreamError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { isHost } from '../fetch-handler.ts';
import {
  type Access,
  type Authentication,
  type Granted,
  checkOrigin,
  checkSameSite,
  csrfToken,
} from './access.ts';
import { Activities } from './activities.ts';
import { type Asset, dashboardAssets, ownAsset } from './assets.ts';
import { Feed } from './feed.ts';
import { accessBy } from './gate.ts';
import { LocalAccess } from './local-access.ts';
import { ICON, page } from './page.ts';
import { bodyOf } from './request-body.ts';
import {
  describeError,
  errorResponse,
  htmlResponse,
  jsonResponse,
  respond,
  textResponse,
} from './responses.ts';
import type { DashboardSource, FileToSend } from './source.ts';
import type { Activity, Overview } from './view/overview.ts';

export interface DashboardAppearance {
  /** Default: Litestream. */
  readonly title?: string | undefined;
  /** An SVG picture, shown at a height of 28 pixels. */
  readonly logo?: string | undefined;
  /** A style sheet that is loaded after the dashboard's own. */
  readonly css?: string | undefined;
  /** Text at the end of the page. */
  readonly footer?: string | undefined;
}

export interface HandlerOptions extends DashboardAppearance {
  readonly source: DashboardSource;
  /** What the paths of requests begin with, such as `/admin/litestream`; default: nothing. */
  readonly basePath?: string | undefined;
  readonly auth: Authentication | LocalAccess;
  /** Shows everything and does nothing. */
  readonly readOnly?: boolean | undefined;
  readonly logger: Logger;
}

export interface DashboardHandler {
  /** Never rejects. */
  fetch(request: Request): Promise<Response>;
  /** Ends live connections, and restores that run in this process. */
  close(): Promise<void>;
}

const ACTIONS = ['sync', 'snapshot', 'verify'] as const satisfies readonly Activity['action'][];
const FOREVER = 'public, max-age=31536000, immutable';

/** @throws LitestreamError 'not-found' when the package was not built */
export function createHandler(options: HandlerOptions): DashboardHandler {
  return new Handler(options);
}

class Handler implements DashboardHandler {
  readonly #options: HandlerOptions;
  readonly #basePath: string;
  readonly #source: DashboardSource;
  readonly #access: (request: Request) => Promise<Access>;
  readonly #activities: Activities;
  readonly #feed: Feed;
  readonly #assets: ReadonlyMap<string, Asset>;
  readonly #page: Omit<Parameters<typeof page>[1], 'csrfToken' | 'hint'>;
  readonly #streams = new Set<ReadableStreamDefaultController<Uint8Array>>();

  constructor(options: HandlerOptions) {
    this.#options = options;
    this.#source = options.source;
    this.#access = accessBy(options.auth);
    this.#basePath = (options.basePath ?? '').replace(/\/+$/, '');
    this.#activities = new Activities(options.source, () => {
      this.#feed.forgetTimelines();
      this.#feed.refresh();
    });
    this.#feed = new Feed({
      source: options.source,
      readOnly: options.readOnly === true,
      activities: () => this.#activities.list(),
      onError: (error) => this.#log(error),
    });
    const { script, style } = dashboardAssets();
    const css =
      options.css === undefined ? undefined : ownAsset('own.css', 'text/css; charset=utf-8', options.css);
    const logo = options.logo === undefined ? undefined : ownAsset('logo.svg', 'image/svg+xml', options.logo);
    const icon = { name: 'icon.svg', contentType: 'image/svg+xml', body: ICON };
    const styles = css ? [style, css] : [style];
    this.#assets = new Map(
      [script, ...styles, icon, ...(logo ? [logo] : [])].map((asset) => [asset.name, asset]),
    );
    const { title = 'Litestream', footer } = options;
    this.#page = { title, footer, logo, scripts: [script], styles };
  }

  async fetch(request: Request): Promise<Response> {
    try {
      return await this.#route(request);
    } catch (error) {
      this.#log(error);
      return errorResponse(error);
    }
  }

  async close(): Promise<void> {
    this.#feed.close();
    for (const stream of this.#streams) stream.close();
    this.#streams.clear();
    await this.#source.close();
  }

  async #route(request: Request): Promise<Response> {
    // A server that makes the address of it has another path than its application.
    if (!isHost(request.headers.get('host') ?? 'localhost'))
      return textResponse(400, 'The Host header is none.');
    const { pathname } = new URL(request.url);
    if (pathname === this.#basePath) return this.#addSlash(pathname);
    if (!pathname.startsWith(`${this.#basePath}/`)) return textResponse(404, 'There is nothing here.');
    const path = pathname.slice(this.#basePath.length + 1);
    const open = await this.#openToAll(request, path).catch((error: unknown) => {
      this.#log(error);
      return textResponse(503, 'not available: see the log');
    });
    if (open) return open;
    const { auth } = this.#options;
    const access = await this.#access(request);
    if (access instanceof Response) return access;
    if (auth instanceof LocalAccess && path === 'login' && request.method === 'GET')
      return auth.enter(request);
    if (request.method === 'POST') return this.#act(request, path, access);
    if (request.method === 'GET' || request.method === 'HEAD') return this.#show(request, path, access);
    return textResponse(405, 'That method is not allowed.', { allow: 'GET, HEAD, POST' });
  }

  /** Relative addresses need the slash; a relative redirect is right behind a proxy that cuts a prefix, too. */
  #addSlash(pathname: string): Response {
    const location = `${pathname.slice(pathname.lastIndexOf('/') + 1)}/`;
    return respond(308, null, { location: `./${location}` });
  }

  /** What needs no password: it tells no secret and does nothing. */
  async #openToAll(request: Request, path: string): Promise<Response | undefined> {
    if (request.method !== 'GET' && request.method !== 'HEAD') return undefined;
    switch (path) {
      case 'metrics': {
        const metrics = await this.#source.metrics();
        if (!metrics) return textResponse(503, 'no replicate is running: it is the one with the metrics');
        return respond(200, metrics.text, { 'content-type': metrics.contentType });
      }
      case 'healthz': {
        const { healthy, reason, running } = await this.#source.status();
        if (healthy) return textResponse(200, 'ok');
        return this.#no(
          request,
          'not healthy',
          reason ?? (running ? 'not healthy' : 'no replicate is running'),
        );
      }
      case 'readyz': {
        const { running, databases } = await this.#source.status();
        const opening = databases.find(({ state }) => state === 'starting');
        if (running && !opening) return textResponse(200, 'ready');
        return this.#no(
          request,
          'not ready',
          opening ? `${opening.path} is starting` : 'no replicate is running',
        );
      }
      default:
        return undefined;
    }
  }

  /** Reasons name paths, hosts and users: strangers get none. Behind a login of the application's it is not known who asks. */
  async #no(request: Request, word: string, reason: string): Promise<Response> {
    if (this.#options.auth === 'none') return textResponse(503, word);
    const access = await Promise.resolve(request)
      .then(this.#access)
      .catch(() => undefined);
    const told = access !== undefined && !(access instanceof Response) && access.hint === undefined;
    return textResponse(503, told ? reason : word);
  }

  async #show(request: Request, path: string, access: Granted): Promise<Response> {
    if (path.startsWith('assets/')) return this.#asset(path.slice('assets/'.length));
    switch (path) {
      case '': {
        const { token, cookie } = csrfToken(request);
        const hint = this.#options.readOnly === true ? undefined : access.hint;
        const text = page(await this.#overview(access), { ...this.#page, hint, csrfToken: token });
        const response = htmlResponse(text, { 'set-cookie': cookie });
        if (access.cookie !== undefined) response.headers.append('set-cookie', access.cookie);
        return response;
      }
      case 'events':
        return this.#events();
      case 'api/status':
        return jsonResponse(await this.#source.status());
      case 'api/overview':
        return jsonResponse(await this.#overview(access));
      case 'download':
        return this.#download(request, access);
      default:
        return textResponse(404, 'There is nothing here.');
    }
  }

  async #overview({ hint }: Granted): Promise<Overview> {
    const overview = await this.#feed.overview();
    return { ...overview, readOnly: overview.readOnly || hint !== undefined };
  }

  /** @throws LitestreamError 'permission' where nothing can be done */
  #checkMayAct({ hint }: Granted): void {
    if (this.#options.readOnly === true) {
      throw new LitestreamError('permission', 'this dashboard only shows: nothing can be done from it');
    }
    if (hint !== undefined) throw new LitestreamError('permission', `that needs a login: ${hint}`);
  }

  #asset(name: string): Response {
    const asset = this.#assets.get(name);
    if (!asset) return textResponse(404, 'There is nothing here.');
    return respond(200, asset.body, { 'content-type': asset.contentType, 'cache-control': FOREVER });
  }

  async #act(request: Request, path: string, access: Granted): Promise<Response> {
    const name = path.startsWith('api/') ? path.slice('api/'.length) : '';
    const action = ACTIONS.find((candidate) => candidate === name);
    if (!action && !['plan', 'restore', 'cancel'].includes(name))
      return textResponse(404, 'There is nothing here.');
    checkSameSite(request);
    this.#checkMayAct(access);
    const body = await bodyOf(request);
    if (action) {
      await this.#checkKnown(body.database);
      return jsonResponse(this.#activities.begin(action, body.database), 202);
    }
    const answer = await this.#source.call(`/${name}`, body, request.signal);
    this.#feed.refresh();
    return jsonResponse(answer);
  }

  /** @throws LitestreamError 'not-found' */
  async #checkKnown(database: string): Promise<void> {
    const { databases } = await this.#source.status();
    if (databases.some(({ path }) => path === database)) return;
    throw new LitestreamError('not-found', `database ${database} is not configured here`);
  }

  async #download(request: Request, access: Granted): Promise<Response> {
    checkOrigin(request);
    this.#checkMayAct(access);
    const query = new URL(request.url).searchParams;
    const file = await this.#source.download(query.get('database') ?? '', query.get('id') ?? '');
    return respond(200, bytesOf(file), {
      'content-type': 'application/vnd.sqlite3',
      'content-length': String(file.sizeBytes),
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(file.name)}`,
    });
  }

  /** Server-sent events: `live` every two seconds, `slow` when there is something. */
  #events(): Response {
    const encoder = new TextEncoder();
    let end: () => void = () => undefined;
    const stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          const viewer = (event: string, data: object): void => {
            // A viewer that does not keep up gets the next one.
            if ((controller.desiredSize ?? 0) <= 0) return;
            controller.enqueue(encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
          };
          end = () => {
            this.#feed.unwatch(viewer);
            this.#streams.delete(controller);
          };
          controller.enqueue(encoder.encode('retry: 2000\n\n'));
          this.#streams.add(controller);
          if (!this.#feed.watch(viewer)) {
            end();
            controller.close();
          }
        },
        cancel: () => end(),
      },
      { highWaterMark: 8 },
    );
    return respond(200, stream, { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' });
  }

  #log(error: unknown): void {
    const expected = error instanceof LitestreamError;
    this.#options.logger[expected ? 'debug' : 'error']('dashboard', { error: describeError(error) });
  }
}

function bytesOf({ stream }: FileToSend): ReadableStream<Uint8Array> {
  const chunks = (stream as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await chunks.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
    },
    cancel: () => void stream.destroy(),
  });
}
