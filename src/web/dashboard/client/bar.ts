/** The cursor on a timeline bar: by mouse, touch and keys. */

import { momentWords } from '../view/words.ts';

/** @param choose called with the database and the moment in epoch milliseconds when one was picked */
export function watchBars(root: HTMLElement, choose: (database: string, ms: number) => void): void {
  root.addEventListener('pointermove', (event) => {
    const bar = barOf(event.target);
    if (bar) point(bar, momentAt(bar, event.clientX));
  });
  root.addEventListener('pointerout', (event) => {
    const bar = barOf(event.target);
    if (bar && !bar.contains(event.relatedTarget as Node | null)) leave(bar);
  });
  root.addEventListener('focusout', (event) => {
    const bar = barOf(event.target);
    if (bar) leave(bar);
  });
  root.addEventListener('click', (event) => {
    const bar = barOf(event.target);
    if (bar) choose(bar.dataset['bar'] ?? '', momentAt(bar, event.clientX));
  });
  root.addEventListener('keydown', (event) => {
    const bar = barOf(event.target);
    if (!bar) return;
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      choose(bar.dataset['bar'] ?? '', cursorOf(bar));
      return;
    }
    const moved = moveBy(event, bar);
    if (moved === undefined) return;
    event.preventDefault();
    point(bar, clamp(bar, moved));
  });
}

function moveBy({ key, shiftKey }: KeyboardEvent, bar: HTMLElement): number | undefined {
  const step = ((numberOf(bar, 'to') - numberOf(bar, 'from')) / 200) * (shiftKey ? 10 : 1);
  switch (key) {
    case 'ArrowLeft':
    case 'ArrowDown':
      return cursorOf(bar) - step;
    case 'ArrowRight':
    case 'ArrowUp':
      return cursorOf(bar) + step;
    case 'Home':
      return numberOf(bar, 'earliest');
    case 'End':
      return numberOf(bar, 'latest');
    default:
      return undefined;
  }
}

function barOf(target: EventTarget | null): HTMLElement | null {
  return target instanceof Element ? target.closest<HTMLElement>('[data-bar]') : null;
}

function numberOf(bar: HTMLElement, name: string): number {
  return Number(bar.dataset[name] ?? 0);
}

function cursorOf(bar: HTMLElement): number {
  const { cursor } = bar.dataset;
  return cursor === undefined ? numberOf(bar, 'latest') : Number(cursor);
}

function clamp(bar: HTMLElement, ms: number): number {
  return Math.min(numberOf(bar, 'latest'), Math.max(numberOf(bar, 'earliest'), ms));
}

function momentAt(bar: HTMLElement, x: number): number {
  const { left, width } = bar.getBoundingClientRect();
  const share = width === 0 ? 1 : (x - left) / width;
  const from = numberOf(bar, 'from');
  return clamp(bar, from + share * (numberOf(bar, 'to') - from));
}

/** Shows the moment; the flag follows it, and turns at the right end. */
function point(bar: HTMLElement, ms: number): void {
  bar.dataset['cursor'] = String(Math.round(ms));
  const from = numberOf(bar, 'from');
  const share = (ms - from) / (numberOf(bar, 'to') - from);
  const words = momentWords(ms, 'local');
  bar.setAttribute('aria-valuenow', String(Math.round(ms / 1000)));
  bar.setAttribute('aria-valuetext', words);
  const flag = flagOf(bar);
  flag.hidden = false;
  flag.style.left = `${(share * 100).toFixed(2)}%`;
  flag.classList.toggle('turned', share > 0.7);
  const label = flag.firstElementChild;
  if (label) label.textContent = words;
}

function leave(bar: HTMLElement): void {
  delete bar.dataset['cursor'];
  flagOf(bar).hidden = true;
}

function flagOf(bar: HTMLElement): HTMLElement {
  const there = bar.querySelector<HTMLElement>('.flag');
  if (there) return there;
  const flag = document.createElement('div');
  flag.className = 'flag';
  flag.hidden = true;
  flag.dataset['own'] = '';
  flag.append(document.createElement('span'));
  bar.append(flag);
  return flag;
}
