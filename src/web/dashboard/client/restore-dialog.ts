/** The choice of what to restore: a moment, the plan for it, a name for the new file. */

import type { RestorePlanReport } from '../../../control/replica-reader.ts';
import { parseMoment } from '../view/parse-moment.ts';
import { type DatabaseView, type Overview, isFull, shortNames } from '../view/overview.ts';
import { barModel } from '../view/timeline-bar.ts';
import { byteWords, durationWords, momentWords, plural, utcWords } from '../view/words.ts';
import { post } from './api.ts';

/** Typing may go on for so long before the plan is asked for. */
const PAUSE_MS = 350;
const STEPS = 1000;
/** Compressed bytes that a restore takes in within a second, on machines as they are: an estimate. */
const BYTES_PER_SECOND = 25e6;

export class RestoreDialog {
  readonly #dialog = element('restore', HTMLDialogElement);
  readonly #moment = element('restore-moment', HTMLInputElement);
  readonly #range = element('restore-range', HTMLInputElement);
  readonly #replica = element('restore-replica', HTMLSelectElement);
  readonly #file = element('restore-file', HTMLInputElement);
  readonly #start = element('restore-start', HTMLButtonElement);
  readonly #onStarted: () => void;
  #database: DatabaseView | undefined;
  #earliestMs = 0;
  #latestMs = 0;
  /** Undefined: the latest state, whatever comes until then. */
  #chosenMs: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asking = new AbortController();

  constructor(onStarted: () => void) {
    this.#onStarted = onStarted;
    this.#moment.addEventListener('input', () => this.#typed());
    this.#range.addEventListener('input', () => this.#slid());
    this.#replica.addEventListener('change', () => this.#changed());
    this.#file.addEventListener('input', () => this.#showCommand());
    element('restore-close', HTMLButtonElement).addEventListener('click', () => this.#dialog.close());
    element('restore-copy', HTMLButtonElement).addEventListener('click', () => {
      void navigator.clipboard.writeText(text('restore-command').textContent);
    });
    element('restore-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#dialog.addEventListener('close', () => {
      clearTimeout(this.#timer);
      this.#asking.abort();
    });
  }

  /** @param ms the moment in epoch milliseconds; undefined: the latest */
  open(overview: Overview, path: string, nowMs: number, ms?: number): void {
    const database = overview.status.databases.find((candidate) => candidate.path === path);
    if (!database) return;
    this.#database = database;
    const model = barModel(database, overview.timelines[path], nowMs);
    this.#earliestMs = model.earliestMs ?? nowMs;
    this.#latestMs = model.latestMs ?? nowMs;
    const names = shortNames(overview.status.databases.map((candidate) => candidate.path));
    text('restore-title').textContent = `Restore ${names.get(path) ?? path}`;
    this.#fillReplicas(database);
    this.#file.value = '';
    text('restore-error').textContent = '';
    const latest = ms === undefined || this.#latestMs - ms < 1000;
    this.#chosenMs = latest ? undefined : Math.round(ms);
    this.#moment.value = latest ? 'now' : localText(ms);
    this.#showRange();
    this.#changed();
    this.#dialog.showModal();
    this.#moment.select();
  }

  #fillReplicas({ replicas }: DatabaseView): void {
    const options = [new Option('the one with the newest data', '')];
    for (const replica of replicas) {
      const where = isFull(replica) && replica.location !== null ? ` (${replica.location})` : '';
      options.push(new Option(`${replica.name}${where}`, replica.name));
    }
    this.#replica.replaceChildren(...options);
    text('restore-replica-field').hidden = replicas.length < 2;
  }

  #typed(): void {
    const now = Date.now();
    const plain = this.#moment.value.trim().toLowerCase();
    const ms = parseMoment(plain, now);
    if (ms === undefined) {
      this.#say('Not a time yet: try 10m ago, or 2026-01-15 10:30:00.', true);
      return;
    }
    this.#chosenMs = ['', 'now', 'latest'].includes(plain) ? undefined : Math.round(ms);
    this.#showRange();
    this.#changed();
  }

  #slid(): void {
    const share = Number(this.#range.value) / STEPS;
    const ms = this.#earliestMs + share * (this.#latestMs - this.#earliestMs);
    this.#chosenMs = share === 1 ? undefined : Math.round(ms);
    this.#moment.value = share === 1 ? 'now' : localText(ms);
    this.#changed();
  }

  #showRange(): void {
    const width = Math.max(1, this.#latestMs - this.#earliestMs);
    const ms = this.#chosenMs ?? this.#latestMs;
    this.#range.value = String(Math.round(((ms - this.#earliestMs) / width) * STEPS));
  }

  #changed(): void {
    const ms = this.#chosenMs;
    if (ms === undefined) this.#say('The latest state: every commit that is stored when the restore begins.');
    else if (ms < this.#earliestMs)
      this.#say(
        `That is before ${momentWords(this.#earliestMs, 'local')}, the first moment that can be restored.`,
        true,
      );
    else if (ms > Date.now()) this.#say('That is in the future.', true);
    else
      this.#say(
        `${momentWords(ms, 'local')}, ${durationWords(Date.now() - ms)} ago; ${utcWords(new Date(ms).toISOString())}`,
      );
    const time = new Date(ms ?? Date.now()).toISOString().replace(/[-:]|\.\d+/g, '');
    this.#file.placeholder = `${this.#fileOf()}.restored-${time}`;
    this.#showCommand();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#plan(), PAUSE_MS);
  }

  #say(words: string, wrong = false): void {
    const said = text('restore-moment-said');
    said.textContent = words;
    said.classList.toggle('bad-text', wrong);
    this.#start.disabled = wrong;
  }

  #fileOf(): string {
    return this.#database?.path.split('/').at(-1) ?? '';
  }

  #request(): { database: string; timestamp?: string; replica?: string; fileName?: string } {
    const { value: replica } = this.#replica;
    const fileName = this.#file.value.trim();
    return {
      database: this.#database?.path ?? '',
      ...(this.#chosenMs === undefined ? {} : { timestamp: new Date(this.#chosenMs).toISOString() }),
      ...(replica === '' ? {} : { replica }),
      ...(fileName === '' ? {} : { fileName }),
    };
  }

  #showCommand(): void {
    const { database, timestamp, replica, fileName } = this.#request();
    const folder = database.slice(0, database.lastIndexOf('/') + 1);
    const words = ['litestream restore', '-o', quote(folder + (fileName ?? this.#file.placeholder))];
    if (timestamp !== undefined) words.push('-timestamp', timestamp);
    if (replica !== undefined) words.push('-replica', quote(replica));
    text('restore-command').textContent = [...words, quote(database)].join(' ');
  }

  async #plan(): Promise<void> {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    const place = text('restore-plan');
    place.textContent = 'Looking for what is needed…';
    try {
      const plan = await post<RestorePlanReport>('plan', this.#request(), signal);
      const seconds = Math.max(1, Math.ceil(plan.bytesTotal / BYTES_PER_SECOND));
      place.textContent =
        `Fetches the snapshot of ${momentWords(Date.parse(plan.snapshot.at), 'local')} (${byteWords(plan.snapshot.sizeBytes)}) and ` +
        `${plural(plan.segmentCount, 'WAL segment')} from ${plan.replica}: ${byteWords(plan.bytesTotal)}, ` +
        `about ${durationWords(seconds * 1000)}. ${plan.warnings.join(' ')}`;
    } catch (error) {
      if (!signal.aborted) place.textContent = `There is no plan for it: ${messageOf(error)}.`;
    }
  }

  async #submit(): Promise<void> {
    text('restore-error').textContent = '';
    this.#start.disabled = true;
    try {
      await post('restore', this.#request());
      this.#dialog.close();
      this.#onStarted();
    } catch (error) {
      text('restore-error').textContent = messageOf(error);
    } finally {
      this.#start.disabled = false;
    }
  }
}

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`#${id} is not in the page`);
}

function text(id: string): HTMLElement {
  return element(id, HTMLElement);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** As parseMoment() reads it. */
function localText(ms: number): string {
  const time = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, '0');
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join('-');
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
