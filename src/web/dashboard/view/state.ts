/** The word and the sign for each state: colours are never the only one. */

import { type Html, html } from './html.ts';

const STATES: Readonly<Record<string, readonly [word: string, sign: string]>> = {
  ok: ['Stored', '✓'],
  lagging: ['Behind', '!'],
  failing: ['Failing', '!'],
  blocked: ['WAL blocked', '!'],
  stuck: ['Stuck', '!'],
  starting: ['Starting', '…'],
  waiting: ['No database yet', '…'],
  stopping: ['Stopping', '…'],
  crashed: ['Process died', '!'],
  unstored: ['Not all stored', '!'],
  stopped: ['Not replicated', '!'],
  hung: ['No answer', '!'],
  unknown: ['Not askable', '?'],
};

function stateWord(state: string): string {
  return STATES[state]?.[0] ?? state;
}

/** In the middle of a sentence: `failing`, but `WAL blocked`. */
export function stateInSentence(state: string): string {
  const word = stateWord(state);
  return /^[A-Z][a-z]/.test(word) ? word.charAt(0).toLowerCase() + word.slice(1) : word;
}

export function badge(state: string, healthy: boolean): Html {
  const tone = !healthy ? 'bad' : state === 'ok' ? 'good' : 'warn';
  const sign = STATES[state]?.[1] ?? '?';
  return html`<span class="badge ${tone}"><span aria-hidden="true">${sign}</span> ${stateWord(state)}</span>`;
}
