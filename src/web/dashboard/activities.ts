/** What was begun from the page and takes longer than a request should: it goes on when the viewer has left. */

import { messageOf } from '../../base/errors.ts';
import type { SnapshotAnswer } from '../../control/dashboard-routes.ts';
import type { DashboardSource } from './source.ts';
import type { Activity } from './view/overview.ts';

const MAX_KEPT = 50;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class Activities {
  readonly #source: DashboardSource;
  readonly #onChange: () => void;
  readonly #items: Mutable<Activity>[] = [];
  #lastId = 0;

  constructor(source: DashboardSource, onChange: () => void) {
    this.#source = source;
    this.#onChange = onChange;
  }

  /** The newest first, one for each database and action. */
  list(): readonly Activity[] {
    return this.#items.map((item) => ({ ...item }));
  }

  /** Begins, or gives the one that runs already. */
  begin(action: Activity['action'], database: string): Activity {
    const same = this.#items.findIndex((item) => item.database === database && item.action === action);
    const there = this.#items[same];
    if (there?.state === 'running') return { ...there };
    if (there) this.#items.splice(same, 1);
    const startedAt = new Date().toISOString();
    const item: Mutable<Activity> = {
      id: ++this.#lastId,
      database,
      action,
      state: 'running',
      startedAt,
      message: '',
    };
    this.#items.unshift(item);
    this.#items.splice(MAX_KEPT);
    void this.#run(item);
    return { ...item };
  }

  /** Never rejects. */
  async #run(item: Mutable<Activity>): Promise<void> {
    this.#onChange();
    try {
      const answer = await this.#source.call(`/${item.action}`, { database: item.database });
      item.message = inWords(item.action, answer);
      // A replica that does not restore is no success, though finding that out was.
      item.state = (answer as { readonly result?: string }).result === 'failed' ? 'failed' : 'done';
    } catch (error) {
      item.message = messageOf(error);
      item.state = 'failed';
    }
    this.#onChange();
  }
}

function inWords(action: Activity['action'], answer: object): string {
  switch (action) {
    case 'sync':
      return 'everything that was committed is stored.';
    case 'snapshot': {
      const later = (answer as SnapshotAnswer).replicas.filter(({ at }) => at === null);
      if (later.length === 0) return 'is stored.';
      return `follows with the next commit (${later.map(({ name }) => name).join(', ')}): until then it would hold nothing new.`;
    }
    case 'verify': {
      const { result, message } = answer as { readonly result?: string; readonly message?: string };
      return [result, message].filter((text) => text !== undefined).join(': ') || 'has ended: see Verified.';
    }
  }
}
