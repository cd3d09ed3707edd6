/** The page as the server sends it: complete without the script, which only keeps it up to date and adds what can be done. */

import type { Asset } from './assets.ts';
import { Html, html } from './view/html.ts';
import { mainView } from './view/main-view.ts';
import type { Overview } from './view/overview.ts';
import { sentence } from './view/summary.ts';

export interface PageOptions {
  readonly title: string;
  readonly footer: string | undefined;
  readonly logo: Asset | undefined;
  readonly scripts: readonly Asset[];
  readonly styles: readonly Asset[];
  readonly csrfToken: string;
  /** How to log in, as a sentence, for who may only look; undefined: nothing is said. */
  readonly hint: string | undefined;
}

/** All addresses are relative: the page does not know under which prefix it is seen. */
export function page(overview: Overview, options: PageOptions): string {
  const { title, footer, logo, scripts, styles, csrfToken, hint } = options;
  const nowMs = Date.parse(overview.at);
  const view = {
    zone: 'utc',
    nowMs,
    filter: '',
    state: 'all',
    opened: new Set<string>(),
    connection: 'static',
  } as const;
  const { tone, title: said } = sentence(overview);
  // A script of another type is data: nothing runs it, and nothing in it can end it.
  const data = new Html(JSON.stringify(overview).replaceAll('<', '\\u003c'));
  return html`<!doctype html>
    <html lang="en" class="no-script" data-tone="${tone}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="robots" content="noindex" />
        <meta name="litestream-token" content="${csrfToken}" />
        <title>${said} ${title}</title>
        ${styles.map(({ name }) => html`<link rel="stylesheet" href="assets/${name}" />`)}
        <link rel="icon" href="assets/icon.svg" type="image/svg+xml" />
        <script type="application/json" id="overview">
          ${data}
        </script>
        ${scripts.map(({ name }) => html`<script type="module" src="assets/${name}"></script>`)}
      </head>
      <body>
        ${PATTERNS}
        <a class="skip" href="#main">Skip to the databases</a>
        <header class="top">
          <a class="brand" href="./"
            >${logo ? html`<img src="assets/${logo.name}" alt="" height="28" />` : LOGO}<span
              >${title}</span
            ></a
          >
          <nav aria-label="More"><a href="metrics">Metrics</a><a href="api/status">Status JSON</a></nav>
        </header>
        ${
          hint !== undefined &&
          html`<p class="login" role="note">
            <strong>This page only shows.</strong> To restore, download, verify or take a snapshot, log in:
            ${hint}
          </p>`
        }
        <main id="main" tabindex="-1">${mainView(overview, view)}</main>
        <footer class="bottom">
          <p class="legend">
            ${legend('span even', 'restorable')} ${legend('gap', 'missing')} ${legend('tick', 'snapshot')}
            <span><span aria-hidden="true" class="good-text">✓</span> verified</span>
          </p>
          <p>${footer ?? 'Times are in your zone; hover for UTC.'}</p>
          <noscript
            ><p>
              Without JavaScript this page shows times in UTC, and nothing can be done from it: use the
              litestream command.
            </p></noscript
          >
        </footer>
        ${!overview.readOnly && RESTORE_DIALOG}
        <p class="visually-hidden" id="announcer" role="status" aria-live="polite"></p>
      </body>
    </html>`.text.replace(/\n\s+/g, '\n');
}

export const LOGO: Html = html`<svg
  viewBox="0 0 32 32"
  width="26"
  height="26"
  aria-hidden="true"
  class="logo"
>
  <path d="M16 2c6 8 9 12 9 17a9 9 0 0 1-18 0c0-5 3-9 9-17z"></path>
  <path class="wave" d="M9 19c3-3 5 2 8-1s4-1 6 0"></path>
</svg>`;

/** For the browser's tab: without a style sheet. */
export const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path fill="#1769aa" d="M16 2c6 8 9 12 9 17a9 9 0 0 1-18 0c0-5 3-9 9-17z"/></svg>';

const PATTERNS = html`<svg width="0" height="0" class="patterns" aria-hidden="true" focusable="false">
  <defs>
    <pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
      <rect class="hatch-ground" width="7" height="7"></rect>
      <rect class="hatch-line" width="3" height="7"></rect>
    </pattern>
  </defs>
</svg>`;

function legend(kind: string, word: string): Html {
  const width = kind === 'tick' ? 2 : 18;
  return html`<span
    ><svg width="${width}" height="12" aria-hidden="true">
      <rect class="${kind}" width="${width}" height="12"></rect>
    </svg>
    ${word}</span
  >`;
}

const RESTORE_DIALOG = html`<dialog id="restore" aria-labelledby="restore-title">
  <form method="dialog" id="restore-form">
    <h2 id="restore-title">Restore</h2>
    <p class="note">To a new file beside the database. The database itself is not touched.</p>
    <label class="field"
      ><span>Moment</span>
      <input
        id="restore-moment"
        type="text"
        autocomplete="off"
        spellcheck="false"
        aria-describedby="restore-moment-said"
        placeholder="now, 10m ago, 2026-01-15 10:30:00"
      />
    </label>
    <input
      id="restore-range"
      type="range"
      min="0"
      max="1000"
      value="1000"
      aria-label="Moment on the timeline"
    />
    <p id="restore-moment-said" class="said" aria-live="polite"></p>
    <label class="field" id="restore-replica-field"
      ><span>Replica</span
      ><select id="restore-replica"></select
    ></label>
    <label class="field"
      ><span>New file</span><input id="restore-file" type="text" autocomplete="off" spellcheck="false"
    /></label>
    <section id="restore-plan" class="plan" aria-live="polite"></section>
    <div class="field">
      <span>The same in a shell</span><code id="restore-command"></code
      ><button type="button" class="quiet" id="restore-copy">Copy</button>
    </div>
    <p id="restore-error" class="bad-text" role="alert"></p>
    <div class="dialog-actions">
      <button type="button" id="restore-close">Close</button>
      <button type="submit" class="primary" id="restore-start">Restore to a new file</button>
    </div>
  </form>
</dialog>`;
