/** The sentence at the top: whether the data is safe, in words. */

import { type Html, html } from './html.ts';
import { type DatabaseView, type Overview, type View, lagOf, shortNames, sorted } from './overview.ts';
import { stateInSentence } from './state.ts';
import { ago, durationWords, plural } from './words.ts';

/** More are told by their cards. */
export const MAX_PROBLEMS = 3;

export interface Sentence {
  readonly tone: 'good' | 'warn' | 'bad';
  readonly title: string;
  readonly detail: string;
}

export function sentence({ status }: Pick<Overview, 'status'>): Sentence {
  const { databases, running } = status;
  const all = databases.length === 1 ? 'The database' : `All ${databases.length} databases`;
  const verb = databases.length === 1 ? 'is' : 'are';
  if (databases.length === 0) {
    return {
      tone: 'warn',
      title: 'No database is configured.',
      detail: 'Add one under dbs in the config file.',
    };
  }
  if (!running) {
    const detail = 'Commits since its end are in no replica. What was stored before can be restored.';
    return { tone: 'bad', title: 'Nothing is replicating.', detail };
  }
  const ill = sorted(databases).filter(({ healthy }) => !healthy);
  const [worst] = ill;
  if (worst) {
    const names = shortNames(databases.map(({ path }) => path));
    if (ill.length > 1) {
      const detail = `The other ${databases.length - ill.length} are stored.`;
      const title = `${ill.length} of ${databases.length} databases are at risk.`;
      return { tone: 'bad', title, detail: ill.length === databases.length ? '' : detail };
    }
    const lag = lagOf(worst);
    const what = lag ? `${durationWords(lag)} of commits not stored` : stateInSentence(worst.state);
    const others =
      databases.length > 1
        ? `The other ${plural(databases.length - 1, 'database')} ${databases.length > 2 ? 'are' : 'is'} stored.`
        : '';
    return { tone: 'bad', title: `${names.get(worst.path) ?? worst.path}: ${what}.`, detail: others };
  }
  const unknown = databases.filter((database) => lagOf(database) === undefined);
  const waiting = databases.filter(({ state }) => state === 'waiting' || state === 'starting');
  if (waiting.length > 0 || unknown.length > 0) {
    const count = new Set([...waiting, ...unknown]).size;
    const detail = `${plural(count, 'database')} ${count === 1 ? 'is' : 'are'} still being opened, or not there yet.`;
    return { tone: 'warn', title: 'Getting ready.', detail };
  }
  const oldest = Math.max(...databases.map((database) => lagOf(database) ?? 0));
  const unsaved = oldest === 0 ? 'none' : durationWords(oldest);
  return { tone: 'good', title: `${all} ${verb} stored.`, detail: `Oldest unsaved commit: ${unsaved}.` };
}

export function summary(overview: Overview, view: View): Html {
  const { tone, title, detail } = sentence(overview);
  const ill = sorted(overview.status.databases).filter(({ healthy }) => !healthy);
  const names = shortNames(overview.status.databases.map(({ path }) => path));
  return html`<section class="summary ${tone}" aria-labelledby="summary-title" id="summary">
    <span class="mark" aria-hidden="true">${tone === 'good' ? '✓' : tone === 'warn' ? '…' : '!'}</span>
    <div>
      <h1 id="summary-title" role="status">${title}</h1>
      ${detail !== '' && html`<p class="detail">${detail}</p>`}
      ${
        ill.length > 0 &&
        html`<ul class="problems">
          ${ill.slice(0, MAX_PROBLEMS).map((database) => problem(database, names.get(database.path), view))}
          ${ill.length > MAX_PROBLEMS && html`<li class="more">and ${ill.length - MAX_PROBLEMS} more below</li>`}
        </ul>`
      }
    </div>
  </section>`;
}

function problem(database: DatabaseView, name: string | undefined, { nowMs }: View): Html {
  const { reason, remedy, state } = database;
  const since = 'since' in database ? database.since : null;
  return html`<li>
    <strong>${name}</strong>:
    ${reason ?? stateInSentence(state)}${since !== null && html`, for ${agoWithout(since, nowMs)}`}.
    ${remedy !== null && html`<span class="remedy">What to do: ${remedy}.</span>`}
  </li>`;
}

function agoWithout(iso: string, nowMs: number): Html {
  const words = durationWords(Math.max(0, nowMs - Date.parse(iso)));
  return html`<time datetime="${iso}" title="${iso}">${words}</time>`;
}

/** The line under the title: who says it, and how fresh it is. */
export function provenance({ status, at }: Overview, { nowMs, connection }: View): Html {
  const { version, pid, startedAt } = status;
  const who =
    startedAt === null
      ? html`Known from the replicas and records`
      : html`replicate ${version}, process ${pid}, up ${agoWithout(startedAt, nowMs)}`;
  const age = Math.max(0, nowMs - Date.parse(at));
  const fresh =
    connection === 'live'
      ? html`<span class="live">Live</span>`
      : connection === 'stale'
        ? html`<span class="stale" role="alert">Connection lost: as of ${durationWords(age)} ago</span>`
        : html`<span class="static">As of ${ago(at, nowMs)}; reload for news</span>`;
  return html`<p class="provenance" id="provenance">${fresh}<span>${who}</span></p>`;
}
