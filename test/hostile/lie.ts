/** What a lie of a store is, and what may be expected of litestream in spite of it. */

import type { ErrorCode } from '../../src/base/errors.ts';
import type { Chance } from './chance.ts';
import type { Truth, TrueObject } from './truth.ts';

/** What the store holds in one case: the true objects, and others. */
export type Holdings = Map<string, TrueObject>;

export interface Listed {
  readonly key: string;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

export type Operation = 'list' | 'get' | 'stat' | 'put' | 'delete';

/** What a lie takes from the expectations. */
export type Reach =
  /** Foreign objects are there, and the true ones as they were: what a key does that may only put. */
  | 'adds'
  /** Objects say in the proper form what is not so, as whoever knows the format may write them. */
  | 'forges'
  /** True objects were overwritten. */
  | 'overwrites'
  /** Lists lack what is there, or show what is not. */
  | 'hides'
  /** Times are wrong. */
  | 'dates'
  /** Calls fail, or answer what can be seen to be wrong. */
  | 'garbles';

/** How a body differs from the object. */
export interface BodyLie {
  readonly data: Buffer;
  /** What is announced; that of `data` by default. */
  readonly sizeBytes?: number;
  /** After the data: the end, an error, or data without end. */
  readonly then?: 'end' | 'error' | 'endless';
  /** Gives the same whatever range was asked for. */
  readonly whole?: boolean;
}

/** One lie with its choices made. Functions are called for each call; undefined: the truth. */
export interface Lie {
  readonly name: string;
  readonly reach: Reach;
  /** Whether verify must not say that all is whole. */
  readonly damages?: boolean;
  /** Changes what is held, once. */
  readonly plant?: (held: Holdings, truth: Truth) => void;
  /** What is listed in place of this. */
  readonly list?: (listed: readonly Listed[], call: number) => readonly Listed[] | undefined;
  /** A list fails after so many entries. */
  readonly listEnds?: (call: number) => { readonly after: number; readonly code: ErrorCode } | undefined;
  readonly body?: (key: string, data: Buffer, held: Holdings) => BodyLie | undefined;
  readonly fail?: (operation: Operation, key: string) => ErrorCode | undefined;
  /** A put: lost though acknowledged, or done and answered with an error. */
  readonly put?: (key: string) => 'lost' | 'done-and-fails' | undefined;
  /** Of a deletion: how many of the keys are deleted before it fails. */
  readonly deletes?: (count: number) => number | undefined;
}

export type LieMaker = (chance: Chance, truth: Truth) => Lie;

/** Remembers which lies of a case were met. */
export class Lies {
  readonly all: readonly Lie[];
  readonly met = new Set<string>();

  constructor(all: readonly Lie[]) {
    this.all = all;
  }

  has(...reaches: readonly Reach[]): boolean {
    return this.all.some(({ reach }) => reaches.includes(reach));
  }

  /** The first answer that is not the truth. */
  first<T>(ask: (lie: Lie) => T | undefined): T | undefined {
    for (const lie of this.all) {
      const answer = ask(lie);
      if (answer !== undefined) {
        this.met.add(lie.name);
        return answer;
      }
    }
    return undefined;
  }

  plant(held: Holdings, truth: Truth): void {
    for (const lie of this.all) {
      if (!lie.plant) continue;
      lie.plant(held, truth);
      this.met.add(lie.name);
    }
  }

  list(true_: readonly Listed[], call: number): readonly Listed[] {
    let listed = true_;
    for (const lie of this.all) {
      const changed = lie.list?.(listed, call);
      if (changed === undefined) continue;
      listed = changed;
      this.met.add(lie.name);
    }
    return listed;
  }

  describe(): string {
    return this.all.map(({ name }) => name).join(', ');
  }
}
