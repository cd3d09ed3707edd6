/** What a card shows when it is opened: replicas side by side, charts, generations, snapshots, events. */

import { type Html, html } from './html.ts';
import { type DatabaseView, type Overview, type View, isFull } from './overview.ts';
import { badge } from './state.ts';
import { barModel, timelineBar } from './timeline-bar.ts';
import { ago, byteWords, countWords, durationWords, moment, plural } from './words.ts';

const MAX_SNAPSHOTS = 12;
const MAX_EVENTS = 10;

export function details(database: DatabaseView, overview: Overview, view: View): Html {
  return html`<div class="details">
    <div class="replicas">
      ${database.replicas.map((replica) => replicaPanel(replica, database, overview, view))}
    </div>
    <div class="charts needs-script" data-chart="${database.path}" data-keep></div>
    ${walNote(database)} ${generations(database.path, overview, view)}
    ${snapshots(database.path, overview, view)} ${events(database.path, overview, view)}
  </div>`;
}

type Pair = readonly [name: string, value: Html | string | false];

function replicaPanel(
  replica: DatabaseView['replicas'][number],
  database: DatabaseView,
  overview: Overview,
  view: View,
): Html {
  const head = html`<h3>${replica.name}</h3>`;
  if (!isFull(replica)) {
    const { newestObjectAt, reason } = replica;
    return panel(head, [
      ['Newest object', newestObjectAt === null ? 'unknown' : ago(newestObjectAt, view.nowMs)],
      ['Note', reason ?? 'as far as its objects tell'],
    ]);
  }
  const { lagMs, backlogBytes, lastUploadAt, lastError, lastVerification, lastSnapshot, position } = replica;
  const requests = replica.requests
    .map(({ operation, count }) => `${countWords(count)} ${operation}`)
    .join(', ');
  const several = database.replicas.length > 1;
  return html`<section class="replica" aria-label="Replica ${replica.name}">
    <div class="replica-head">${head}${badge(replica.state, replica.healthy)}</div>
    ${replica.location !== null && html`<p class="location">${replica.location}</p>`}
    ${several && timelineBar(database.path, `${database.path} in ${replica.name}`, barModel(database, overview.timelines[database.path], view.nowMs, replica.name), view)}
    ${pairs([
      [
        'Lag',
        lagMs === null
          ? 'unknown'
          : lagMs === 0
            ? 'none'
            : `${durationWords(lagMs)}, ${byteWords(backlogBytes ?? 0)} waiting`,
      ],
      ['Last upload', lastUploadAt !== null && ago(lastUploadAt, view.nowMs)],
      [
        'Stored up to',
        position !== null &&
          html`<code
            >${position.generation}/${position.index.toString(16).padStart(8, '0')}:${position.offset}</code
          >`,
      ],
      [
        'Last snapshot',
        lastSnapshot !== null &&
          html`${ago(lastSnapshot.at, view.nowMs)}, ${byteWords(lastSnapshot.sizeBytes)}`,
      ],
      ['Requests', requests !== '' && `${requests} since the start`],
      [
        'Verified',
        lastVerification !== null &&
          html`${lastVerification.result}, ${ago(lastVerification.at, view.nowMs)}:
          ${lastVerification.message}`,
      ],
      ['Last error', lastError !== null && html`${ago(lastError.at, view.nowMs)}: ${lastError.message}`],
      ['What to do', replica.remedy ?? false],
      ['Retention', replica.retentionRefused && 'left to the store: deleting is not permitted'],
    ])}
  </section>`;
}

function panel(head: Html, rows: readonly Pair[]): Html {
  return html`<section class="replica">${head}${pairs(rows)}</section>`;
}

function pairs(rows: readonly Pair[]): Html {
  const shown = rows.filter(([, value]) => value !== false);
  return html`<dl class="pairs">
    ${shown.map(
      ([name, value]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`;
}

function walNote(database: DatabaseView): Html | false {
  const pin = 'walPin' in database ? database.walPin : null;
  if (!pin) return false;
  const who =
    pin.pids.length > 0 ? `process ${pin.pids.join(', ')}` : 'a process that cannot be named from here';
  return html`<p class="reason note">
    The WAL has ${countWords(pin.frames)} frames and cannot be started over: ${who} reads it at frame
    ${pin.frame}.
  </p>`;
}

function table(
  caption: string,
  headers: readonly string[],
  rows: readonly (readonly (Html | string)[])[],
): Html {
  return html`<div class="table">
    <table>
      <caption>
        ${caption}
      </caption>
      <thead>
        <tr>
          ${headers.map((header) => html`<th scope="col">${header}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (cells) =>
            html`<tr>
              ${cells.map((cell) => html`<td>${cell}</td>`)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function generations(path: string, { timelines }: Overview, { zone }: View): Html | false {
  const rows = (timelines[path]?.replicas ?? []).flatMap(({ name, spans, error }) =>
    error === null
      ? spans
          .toReversed()
          .map((span) => [
            name,
            html`<code>${span.generation}</code>`,
            moment(span.from, zone),
            moment(span.to, zone),
            plural(span.objectCount, 'object'),
            byteWords(span.sizeBytes),
          ])
      : [[name, html`<span class="warn-text">${error}</span>`, '', '', '', '']],
  );
  if (rows.length === 0) return false;
  return table('Generations', ['Replica', 'Generation', 'From', 'To', 'Objects', 'Size'], rows);
}

function snapshots(path: string, { timelines }: Overview, { zone, nowMs }: View): Html | false {
  const all = (timelines[path]?.replicas ?? [])
    .flatMap(({ name, snapshots }) => snapshots.map((snapshot) => ({ name, ...snapshot })))
    .toSorted((a, b) => b.at.localeCompare(a.at));
  if (all.length === 0) return false;
  const caption =
    all.length > MAX_SNAPSHOTS ? `Snapshots, the newest ${MAX_SNAPSHOTS} of ${all.length}` : 'Snapshots';
  return table(
    caption,
    ['Replica', 'Taken', '', 'Index', 'Size'],
    all
      .slice(0, MAX_SNAPSHOTS)
      .map(({ name, at, index, sizeBytes }) => [
        name,
        moment(at, zone),
        ago(at, nowMs),
        String(index),
        byteWords(sizeBytes),
      ]),
  );
}

function events(path: string, { history }: Overview, { zone }: View): Html | false {
  const own = (history?.events ?? []).filter((event) => event.path === path).slice(0, MAX_EVENTS);
  if (own.length === 0) return false;
  return table(
    'Recent events',
    ['When', 'State', 'Why'],
    own.map(({ at, state, healthy, reason }) => [moment(at, zone), badge(state, healthy), reason ?? '']),
  );
}
