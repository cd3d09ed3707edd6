/** Brings the server's page to life: draws it again from each event, with the same views, and sends what is to be done. */

import { mainView } from '../view/main-view.ts';
import { DENSE_FROM, type Live, type Overview, type Slow, type View } from '../view/overview.ts';
import { sentence } from '../view/summary.ts';
import { type Listener, listen, post } from './api.ts';
import { watchBars } from './bar.ts';
import { drawCharts } from './charts.ts';
import { morph } from './morph.ts';
import { RestoreDialog } from './restore-dialog.ts';

/** Ages count on while nothing comes. */
const TICK_MS = 1000;

class Page implements Listener {
  readonly #root: HTMLElement;
  readonly #title: string;
  readonly #dialog: RestoreDialog | undefined;
  readonly #opened = new Set<string>();
  #overview: Overview;
  /** The server's clock against ours. */
  #skewMs: number;
  #connection: View['connection'] = 'live';

  constructor(root: HTMLElement, overview: Overview) {
    this.#root = root;
    this.#overview = overview;
    this.#skewMs = Date.parse(overview.at) - Date.now();
    this.#title = document.title.slice(sentence(overview).title.length);
    if (!overview.readOnly) this.#dialog = new RestoreDialog(() => announce('The restore has begun.'));
    watchBars(root, (path, ms) => this.#choose(path, ms));
    root.addEventListener('input', () => this.draw());
    root.addEventListener('click', (event) => {
      const button = event.target instanceof Element ? event.target.closest<HTMLElement>('button') : null;
      if (button) this.#clicked(button.dataset);
    });
    // Not a bubbling event.
    root.addEventListener('toggle', ({ target }) => this.#toggled(target), true);
  }

  live(live: Live): void {
    this.#overview = { ...this.#overview, ...live };
    this.#skewMs = Date.parse(live.at) - Date.now();
    this.#connection = 'live';
    this.draw();
  }

  slow(slow: Slow): void {
    this.#overview = { ...this.#overview, ...slow };
    this.draw();
  }

  lost(): void {
    this.#connection = 'stale';
    this.draw();
  }

  draw(): void {
    const view: View = {
      zone: 'local',
      nowMs: Math.max(this.#now(), Date.parse(this.#overview.at)),
      filter: inputValue('filter'),
      state: inputValue('state') === 'unwell' ? 'unwell' : 'all',
      opened: this.#opened,
      connection: this.#connection,
    };
    morph(this.#root, mainView(this.#overview, view).text);
    const { tone, title } = sentence(this.#overview);
    document.documentElement.dataset['tone'] = tone;
    document.title = title + this.#title;
    drawCharts(this.#root, this.#overview.history);
  }

  #now(): number {
    return Date.now() + this.#skewMs;
  }

  #choose(path: string, ms?: number): void {
    this.#dialog?.open(this.#overview, path, this.#now(), ms);
  }

  #clicked({ restore, action, database, cancel, copy, toggle, clear }: DOMStringMap): void {
    if (restore !== undefined) this.#choose(restore);
    if (action !== undefined) void this.#begin(action, { database });
    if (cancel !== undefined) void this.#begin('cancel', { id: cancel, database });
    if (copy !== undefined) void navigator.clipboard.writeText(copy).then(() => announce('Copied.'));
    if (clear !== undefined) clearFilters();
    if (toggle !== undefined && !this.#opened.delete(toggle)) this.#opened.add(toggle);
    if (toggle !== undefined || clear !== undefined) this.draw();
  }

  async #begin(action: string, body: object): Promise<void> {
    try {
      await post(action, body);
    } catch (error) {
      showFailure(this.#root, error instanceof Error ? error.message : String(error));
    }
  }

  #toggled(target: EventTarget | null): void {
    const path = target instanceof HTMLDetailsElement ? target.dataset['more'] : undefined;
    if (!(target instanceof HTMLDetailsElement) || path === undefined) return;
    // Of many databases, a row opens everything.
    if (this.#overview.status.databases.length >= DENSE_FROM || target.open === this.#opened.has(path))
      return;
    if (target.open) this.#opened.add(path);
    else this.#opened.delete(path);
    this.draw();
  }
}

/** For screen readers. */
function announce(words: string): void {
  const place = document.getElementById('announcer');
  if (place) place.textContent = words;
}

function inputValue(id: string): string {
  const input = document.getElementById(id);
  return input instanceof HTMLInputElement || input instanceof HTMLSelectElement ? input.value : '';
}

function clearFilters(): void {
  const filter = document.getElementById('filter');
  const state = document.getElementById('state');
  if (filter instanceof HTMLInputElement) filter.value = '';
  if (state instanceof HTMLSelectElement) state.value = 'all';
}

/** What could not be begun, above everything until it is clicked on. */
function showFailure(root: HTMLElement, words: string): void {
  document.getElementById('failure')?.remove();
  const note = document.createElement('p');
  note.id = 'failure';
  note.className = 'failure';
  note.setAttribute('role', 'alert');
  note.textContent = `${words} (click to dismiss)`;
  note.addEventListener('click', () => note.remove());
  root.before(note);
}

const root = document.getElementById('main');
const data = document.getElementById('overview');
if (root && data) {
  const page = new Page(root, JSON.parse(data.textContent) as Overview);
  document.documentElement.classList.remove('no-script');
  page.draw();
  listen(page);
  setInterval(() => page.draw(), TICK_MS);
}
