/** The last hour as charts in an opened card. */

import uPlot from 'uplot';
import type { DatabaseHistory } from '../../../control/history.ts';
import type { Slow } from '../view/overview.ts';
import { byteWords, durationWords } from '../view/words.ts';

interface Chart {
  readonly plot: uPlot;
  readonly row: keyof Omit<DatabaseHistory, 'path'>;
}

const CHARTS = [
  { row: 'lagMs', title: 'Lag', label: 'Lag', words: durationWords, floor: 5000 },
  { row: 'walSizeBytes', title: 'WAL size', label: 'WAL size', words: byteWords, floor: 4096 },
  { row: 'uploadedBytes', title: 'Uploaded in 30 s', label: 'Uploaded', words: byteWords, floor: 4096 },
] as const;

const HEIGHT = 130;
const drawn = new WeakMap<Element, readonly Chart[]>();

/** Draws, or brings up to date, the charts of all opened cards. */
export function drawCharts(root: ParentNode, history: Slow['history']): void {
  if (!history) return;
  for (const place of root.querySelectorAll<HTMLElement>('[data-chart]')) {
    // A card that is closed has no width to draw in.
    if (place.clientWidth === 0) continue;
    const database = history.databases.find(({ path }) => path === place.dataset['chart']);
    if (!database) continue;
    const times = timesOf(history, database.lagMs.length);
    let charts = drawn.get(place);
    if (!charts) {
      charts = CHARTS.map((chart) => ({ row: chart.row, plot: plotIn(place, chart) }));
      drawn.set(place, charts);
    }
    for (const { plot, row } of charts) {
      const width = widthOf(place);
      if (plot.width !== width) plot.setSize({ width, height: HEIGHT });
      plot.setData([times, [...database[row]]]);
    }
  }
}

function timesOf({ lastBucketAt, bucketMs }: NonNullable<Slow['history']>, count: number): number[] {
  const last = Date.parse(lastBucketAt);
  return Array.from({ length: count }, (_, i) => (last - (count - 1 - i) * bucketMs) / 1000);
}

function widthOf(place: HTMLElement): number {
  const columns = place.clientWidth > 720 ? CHARTS.length : 1;
  return Math.floor((place.clientWidth - 20 * (columns - 1)) / columns);
}

const clockOf = uPlot.fmtDate('{HH}:{mm}:{ss}');

/** What the legend says of a row: under the pointer, else the newest of the chart. Undefined where nothing is known. */
function shownAt({ data }: uPlot, row: number, index: number | null): number | undefined {
  return data[row]?.[index ?? data[1]?.findLastIndex((value) => value != null) ?? -1] ?? undefined;
}

function plotIn(place: HTMLElement, chart: (typeof CHARTS)[number]): uPlot {
  const figure = document.createElement('figure');
  const caption = document.createElement('figcaption');
  caption.textContent = `${chart.title}, last hour`;
  figure.append(caption);
  place.append(figure);
  const color = (name: string): string =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: () => color('--muted'),
    grid: { stroke: () => color('--line'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui, sans-serif',
  };
  return new uPlot(
    {
      width: widthOf(place),
      height: HEIGHT,
      cursor: { y: false, points: { size: 6 } },
      legend: { show: true, live: true },
      scales: { y: { range: (_, __, max) => [0, Math.max(chart.floor, max) * 1.1] } },
      axes: [
        { ...axis, space: 70, values: '{HH}:{mm}' },
        { ...axis, size: 62, space: 32, values: (_, values) => values.map((value) => chart.words(value)) },
      ],
      series: [
        {
          label: 'Time',
          value: (plot, _, row, index) => {
            const seconds = shownAt(plot, row, index);
            return seconds === undefined ? '-' : clockOf(new Date(seconds * 1000));
          },
        },
        {
          label: chart.label,
          stroke: () => color('--accent'),
          fill: () => color('--accent-wash'),
          width: 1.5,
          points: { show: false },
          value: (plot, _, row, index) => {
            const value = shownAt(plot, row, index);
            return value === undefined ? '-' : chart.words(value);
          },
        },
      ],
    },
    [[], []],
    figure,
  );
}
