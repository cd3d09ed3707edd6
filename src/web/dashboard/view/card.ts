/** One database: its state, its bar, its numbers, what can be done; opened, its replicas and history. */

import { type Html, html } from './html.ts';
import {
  type Activity,
  type DatabaseView,
  type Overview,
  type View,
  hourSum,
  isFull,
  lagOf,
} from './overview.ts';
import { details } from './details.ts';
import { sparkline } from './sparkline.ts';
import { badge } from './state.ts';
import { MAX_PROBLEMS } from './summary.ts';
import { type BarModel, barCaption, barModel, timelineBar } from './timeline-bar.ts';
import { ago, byteWords, countWords, durationWords } from './words.ts';

const MONTH_BUCKETS = (30 * 86_400_000) / 30_000;
/** A result stays on its card for so long. */
const MESSAGE_MS = 600_000;

export interface CardParts {
  readonly database: DatabaseView;
  readonly name: string;
  readonly overview: Overview;
  readonly view: View;
}

export function card(parts: CardParts): Html {
  const { database, name, view } = parts;
  return html`<article
    class="card ${!database.healthy && 'unwell'}"
    data-key="${database.path}"
    aria-label="${name}"
  >
    <header class="card-head">
      ${badge(database.state, database.healthy)}
      <h2 title="${database.path}">${name}</h2>
      <span class="path" title="${database.path}">${database.path}</span>
      <button
        type="button"
        class="quiet copy needs-script"
        data-copy="${database.path}"
        aria-label="Copy the path of ${name}"
      >
        Copy
      </button>
      ${actions(parts)}
    </header>
    ${body(parts, view.connection === 'static' || view.opened.has(database.path))}
  </article>`;
}

/** The same as a row that opens: for many databases. */
export function row(parts: CardParts): Html {
  const { database, name, overview, view } = parts;
  const opened = view.opened.has(database.path);
  const model = barModel(database, overview.timelines[database.path], view.nowMs);
  const lag = lagOf(database);
  return html`<article
    class="card row ${!database.healthy && 'unwell'}"
    data-key="${database.path}"
    aria-label="${name}"
  >
    <button
      type="button"
      class="row-head"
      data-toggle="${database.path}"
      aria-expanded="${opened ? 'true' : 'false'}"
    >
      ${badge(database.state, database.healthy)}
      <span class="row-name" title="${database.path}">${name}</span>
      <span class="row-lag"
        >${lag === undefined ? 'lag unknown' : lag === 0 ? 'no lag' : `lag ${durationWords(lag)}`}</span
      >
      ${miniBar(model)}
      <span class="row-verified">${verifiedWords(database, view)}</span>
    </button>
    ${
      opened &&
      html`<div class="row-body"><span class="path">${database.path}</span>${actions(parts)}</div>
        ${body(parts, true)}`
    }
  </article>`;
}

function body({ database, name, overview, view }: CardParts, full: boolean): Html {
  const model = barModel(database, overview.timelines[database.path], view.nowMs);
  const { reason, remedy, path } = database;
  const ill = overview.status.databases.filter(({ healthy }) => !healthy);
  // What the sentence at the top tells in full is not told twice.
  const told = !database.healthy && ill.length <= MAX_PROBLEMS;
  return html`${
      reason !== null &&
      !told &&
      html`<p class="reason ${database.healthy ? 'note' : 'bad'}">
        ${reason}${remedy !== null && html` <span class="remedy">What to do: ${remedy}.</span>`}
      </p>`
    }
    ${timelineBar(path, name, model, view)} ${barCaption(model, view)} ${facts(database, overview, view)}
    ${messages(path, overview, view)}
    <details class="more" data-more="${path}" ${view.opened.has(path) && 'open'}>
      <summary>Replicas, snapshots, events</summary>
      ${full && details(database, overview, view)}
    </details>`;
}

function actions({ database, name, overview }: CardParts): Html | false {
  if (overview.readOnly) return false;
  const running = overview.activities.filter(
    (activity) => activity.database === database.path && activity.state === 'running',
  );
  const button = (action: Activity['action'], word: string, busy: string): Html => {
    const busyNow = running.some((activity) => activity.action === action);
    return html`<button
      type="button"
      data-action="${action}"
      data-database="${database.path}"
      aria-label="${word} ${name}"
      ${(busyNow || database.source !== 'socket') && 'disabled'}
    >
      ${busyNow ? busy : word}
    </button>`;
  };
  return html`<div class="actions needs-script">
    <button type="button" class="primary" data-restore="${database.path}" aria-label="Restore ${name}">
      Restore…
    </button>
    ${button('verify', 'Verify', 'Verifying…')} ${button('snapshot', 'Snapshot', 'Taking a snapshot…')}
  </div>`;
}

function facts(database: DatabaseView, overview: Overview, view: View): Html {
  const history = overview.history?.databases.find(({ path }) => path === database.path);
  const lag = lagOf(database);
  const stored = (overview.timelines[database.path]?.replicas ?? [])
    .flatMap(({ spans }) => spans)
    .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const uploaded = hourSum(history?.uploadedBytes);
  const requests = hourSum(history?.requests);
  const knownBuckets = history?.requests.filter((value) => value !== null).length ?? 0;
  const monthly =
    requests === undefined || knownBuckets < 4 ? undefined : (requests / knownBuckets) * MONTH_BUCKETS;
  const wal = 'walSizeBytes' in database ? database : undefined;
  const pin = wal?.walPin;
  return html`<dl class="facts">
    ${fact(
      'Lag',
      lag === undefined ? 'unknown' : lag === 0 ? 'none' : durationWords(lag),
      history && sparkline(history.lagMs, 5000, 'Lag of the last hour'),
      'Age of the oldest commit that is in no replica yet',
    )}
    ${wal !== undefined && fact('Database', byteWords(wal.sizeBytes), html`${byteWords(wal.walSizeBytes)} WAL${pin ? ', pinned' : ''}`)}
    ${uploaded !== undefined && fact('Uploaded', byteWords(uploaded), 'in the last hour')}
    ${requests !== undefined && requests > 0 && fact('Requests', countWords(requests), monthly === undefined ? 'in the last hour' : `≈ ${countWords(monthly)} a month`)}
    ${stored > 0 && fact('Kept', byteWords(stored), 'in all replicas')}
    ${fact('Verified', verifiedWords(database, view), verifiedNote(database))}
  </dl>`;
}

function fact(name: string, value: Html | string, note: Html | string | undefined, title?: string): Html {
  return html`<div title="${title ?? ''}">
    <dt>${name}</dt>
    <dd>
      <span class="value">${value}</span>${note !== undefined && html`<span class="note">${note}</span>`}
    </dd>
  </div>`;
}

function lastVerification(
  database: DatabaseView,
): { at: string; result: string; message: string } | undefined {
  const all = database.replicas.filter(isFull).flatMap(({ lastVerification }) => lastVerification ?? []);
  return all.find(({ result }) => result === 'failed') ?? all.toSorted((a, b) => a.at.localeCompare(b.at))[0];
}

function verifiedWords(database: DatabaseView, { nowMs }: View): Html {
  const last = lastVerification(database);
  if (!last) return html`<span class="never">never</span>`;
  const sign = { ok: '✓', failed: '✗' }[last.result] ?? '?';
  return html`<span class="verified-words ${last.result}">${sign} ${ago(last.at, nowMs)}</span>`;
}

function verifiedNote(database: DatabaseView): string | undefined {
  const last = lastVerification(database);
  if (!last) return 'Verify proves that it restores';
  if (last.result === 'ok') return 'restores, page by page';
  return last.result === 'failed' ? 'does NOT restore: see below' : 'inconclusive: see below';
}

function messages(path: string, { activities }: Overview, { nowMs }: View): readonly Html[] {
  return activities
    .filter(({ database, startedAt }) => database === path && nowMs - Date.parse(startedAt) < MESSAGE_MS)
    .map(
      ({ action, state, message, startedAt }) =>
        html`<p class="message ${state}" role="status">
          <strong>${{ sync: 'Sync', snapshot: 'Snapshot', verify: 'Verify' }[action]}</strong>
          ${state === 'running' ? html`runs for ${durationWords(nowMs - Date.parse(startedAt))}` : message}
        </p>`,
    );
}

function miniBar({ fromMs, toMs, spans, gaps }: BarModel): Html {
  const at = (ms: number): number => Math.min(100, Math.max(0, ((ms - fromMs) / (toMs - fromMs)) * 100));
  const rect = (kind: string, from: number, to: number): Html =>
    html`<rect
      class="${kind}"
      x="${at(from).toFixed(2)}%"
      y="0"
      width="${Math.max(0.3, at(to) - at(from)).toFixed(2)}%"
      height="10"
    ></rect>`;
  return html`<svg class="mini-bar" width="100%" height="10" aria-hidden="true">
    <rect class="track" width="100%" height="10" rx="3"></rect>
    ${spans.map((span, i) => rect(`span ${i % 2 === 0 ? 'even' : 'odd'}`, span.fromMs, span.toMs))}
    ${gaps.map((gap) => rect('gap', gap.fromMs, gap.toMs))}
  </svg>`;
}
