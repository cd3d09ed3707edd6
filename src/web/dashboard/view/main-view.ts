/** Everything between header and footer: drawn by the server for the first screen, and by the browser after each change. */

import { card, row } from './card.ts';
import { type Html, html } from './html.ts';
import { jobList } from './jobs.ts';
import { DENSE_FROM, type Overview, type View, matches, shortNames, sorted } from './overview.ts';
import { provenance, summary } from './summary.ts';

/** Fewer need no filter. */
const TOOLBAR_FROM = 6;

export function mainView(overview: Overview, view: View): Html {
  const { databases } = overview.status;
  const names = shortNames(databases.map(({ path }) => path));
  const shown = sorted(databases).filter((database) => matches(database, view));
  const draw = databases.length >= DENSE_FROM ? row : card;
  return html`${summary(overview, view)} ${provenance(overview, view)} ${jobList(overview, view)}
    ${databases.length >= TOOLBAR_FROM && toolbar(shown.length, databases.length, view)}
    <section class="databases ${databases.length >= DENSE_FROM && 'dense'}" aria-label="Databases">
      ${draw === row && shown.length > 0 && COLUMNS}
      ${shown.map((database) => draw({ database, name: names.get(database.path) ?? database.path, overview, view }))}
      ${shown.length === 0 && databases.length > 0 && html`<p class="nothing">No database matches. <button type="button" class="quiet" data-clear>Show all</button></p>`}
    </section>`;
}

/** Over the rows; each row says by itself what it shows. */
const COLUMNS = html`<div class="columns" aria-hidden="true">
  <span>State</span><span>Database</span><span>Lag</span><span>Restorable</span><span>Verified</span>
</div>`;

function toolbar(shown: number, all: number, { state }: View): Html {
  const option = (value: View['state'], word: string): Html =>
    html`<option value="${value}" ${state === value && 'selected'}>${word}</option>`;
  return html`<div class="toolbar needs-script" role="search">
    <label
      ><span>Filter</span
      ><input type="search" id="filter" data-keep placeholder="name, path or state" autocomplete="off"
    /></label>
    <label
      ><span>Show</span
      ><select id="state" data-keep>
        ${option('all', 'All')}${option('unwell', 'Only at risk')}
      </select></label
    >
    <span class="count" aria-live="polite"
      >${shown === all ? `${all} databases` : `${shown} of ${all} databases`}</span
    >
  </div>`;
}
