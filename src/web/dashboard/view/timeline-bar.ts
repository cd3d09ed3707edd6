/** The timeline bar: which moments of a database can be restored, drawn to scale. */

import { greatestOf, leastOf } from '../../../base/extremes.ts';
import type { TimelineReport } from '../../../control/timeline-report.ts';
import { type Html, html } from './html.ts';
import { type DatabaseView, type View, isFull } from './overview.ts';
import { moment, momentWords, plural, roughDuration } from './words.ts';

/** A range that fills less of the retention window than this is drawn larger than to the window's scale. */
const MIN_FILL = 0.15;
/** Room before the first moment, of the whole width. */
const MARGIN = 0.02;
const MIN_WIDTH_MS = 60_000;
/** Over more than this, seconds are not told. */
const COARSE_MS = 3 * 3_600_000;

export interface BarModel {
  /** What the left and the right end stand for. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly spans: readonly { readonly fromMs: number; readonly toMs: number; readonly generation: string }[];
  readonly gaps: readonly { readonly fromMs: number; readonly toMs: number; readonly reason: string }[];
  readonly snapshotsMs: readonly number[];
  readonly verifications: readonly { readonly atMs: number; readonly result: string }[];
  /** The first and the last moment that can be restored; undefined: nothing can, or nothing is known. */
  readonly earliestMs: number | undefined;
  readonly latestMs: number | undefined;
  readonly retentionMs: number | undefined;
}

/**
 * The bar of one replica, or of the one that reaches back the farthest. The status tells the end, which moves with each commit;
 * a listing tells what lies before it.
 */
export function barModel(
  database: DatabaseView,
  timeline: TimelineReport | undefined,
  nowMs: number,
  replicaName?: string,
): BarModel {
  const ofName = ({ name }: { readonly name: string }): boolean =>
    replicaName === undefined || name === replicaName;
  const statuses = database.replicas.filter(isFull).filter(ofName);
  const listed = (timeline?.replicas ?? [])
    .filter(ofName)
    .filter(({ spans }) => spans.length > 0)
    .toSorted((a, b) => (a.spans[0]?.from ?? '').localeCompare(b.spans[0]?.from ?? ''))[0];
  const own =
    statuses.find(({ name }) => name === listed?.name) ?? statuses.find(({ restorable }) => restorable);
  const known = own?.restorable;
  const spans = (listed?.spans ?? []).map(({ from, to, generation }) => ({
    fromMs: Date.parse(from),
    toMs: Date.parse(to),
    generation,
  }));
  const current = own?.position?.generation ?? '';
  if (known) {
    const last = spans.findIndex(({ generation }) => generation === current);
    const span = spans[last];
    if (span) spans[last] = { ...span, toMs: Math.max(span.toMs, Date.parse(known.to)) };
    else spans.push({ fromMs: Date.parse(known.from), toMs: Date.parse(known.to), generation: current });
  }
  const snapshots = new Set((listed?.snapshots ?? []).map(({ at }) => Date.parse(at)));
  if (own?.lastSnapshot) snapshots.add(Date.parse(own.lastSnapshot.at));
  const earliestMs = spans.length === 0 ? undefined : leastOf(spans.map(({ fromMs }) => fromMs));
  const latestMs = spans.length === 0 ? undefined : greatestOf(spans.map(({ toMs }) => toMs));
  const toMs = Math.max(nowMs, latestMs ?? nowMs);
  return {
    ...windowOf(earliestMs, toMs, timeline?.retentionMs ?? undefined),
    toMs,
    spans,
    gaps: (listed?.gaps ?? []).map(({ from, to, reason }) => ({
      fromMs: Date.parse(from),
      toMs: Date.parse(to),
      reason,
    })),
    snapshotsMs: [...snapshots],
    verifications: statuses.flatMap(({ lastVerification }) =>
      lastVerification ? [{ atMs: Date.parse(lastVerification.at), result: lastVerification.result }] : [],
    ),
    earliestMs,
    latestMs,
  };
}

function windowOf(
  earliestMs: number | undefined,
  toMs: number,
  retentionMs: number | undefined,
): { fromMs: number; retentionMs: number | undefined } {
  const range = Math.max(MIN_WIDTH_MS, earliestMs === undefined ? 0 : toMs - earliestMs);
  const fitted = range * (1 + MARGIN);
  if (retentionMs === undefined || range < retentionMs * MIN_FILL)
    return { fromMs: toMs - fitted, retentionMs };
  return { fromMs: toMs - Math.max(fitted, retentionMs), retentionMs };
}

export function timelineBar(path: string, label: string, model: BarModel, view: View): Html {
  const { fromMs, toMs, earliestMs, latestMs } = model;
  const at = (ms: number): number => Math.min(100, Math.max(0, ((ms - fromMs) / (toMs - fromMs)) * 100));
  const rect = (kind: string, from: number, to: number, title?: string): Html => {
    const x = at(from);
    const width = Math.max(0.15, at(to) - x);
    return html`<rect
      class="${kind}"
      x="${x.toFixed(3)}%"
      y="12"
      width="${width.toFixed(3)}%"
      height="26"
      rx="3"
    >
      ${title !== undefined && html`<title>${title}</title>`}
    </rect>`;
  };
  if (earliestMs === undefined || latestMs === undefined) {
    return html`<div class="bar empty">
        <svg width="100%" height="42" aria-hidden="true">
          <rect class="track" x="0" y="12" width="100%" height="26" rx="6"></rect>
        </svg>
      </div>
      <p class="axis"><span>Nothing is known that could be restored.</span></p>`;
  }
  const now = momentWords(latestMs, view.zone);
  return html`<div
      class="bar"
      role="slider"
      tabindex="0"
      data-bar="${path}"
      data-from="${Math.round(fromMs)}"
      data-to="${Math.round(toMs)}"
      data-earliest="${Math.round(earliestMs)}"
      data-latest="${Math.round(latestMs)}"
      aria-label="Moment of ${label} to restore; Enter opens the choice"
      aria-valuemin="${Math.round(earliestMs / 1000)}"
      aria-valuemax="${Math.round(latestMs / 1000)}"
      aria-valuenow="${Math.round(latestMs / 1000)}"
      aria-valuetext="${now}"
    >
      <svg width="100%" height="42" aria-hidden="true">
        <rect class="track" x="0" y="12" width="100%" height="26" rx="6"></rect>
        ${model.spans.map((span, i) => rect(`span ${i % 2 === 0 ? 'even' : 'odd'}`, span.fromMs, span.toMs))}
        ${model.gaps.map((gap) => rect('gap', gap.fromMs, gap.toMs, gap.reason))}
        ${model.snapshotsMs
          .filter((ms) => ms >= fromMs)
          .map(
            (ms) => html`<rect class="tick" x="${at(ms).toFixed(3)}%" y="28" width="2" height="10"></rect>`,
          )}
        ${model.verifications
          .filter(({ atMs }) => atMs >= fromMs)
          .map(
            ({ atMs, result }) =>
              html`<svg x="${Math.min(99, Math.max(1, at(atMs))).toFixed(3)}%" y="0" overflow="visible">
                <path class="verified ${result}" d="${VERIFIED[result] ?? VERIFIED['inconclusive']}"></path>
              </svg>`,
          )}
      </svg>
    </div>
    ${axis(model, view)}`;
}

/** Small drawings around x = 0, above the bar. */
const VERIFIED: Record<string, string> = {
  ok: 'M-4 5l3 3.5l6 -7',
  failed: 'M-4 1.5l7 7m0 -7l-7 7',
  inconclusive: 'M-4 5h8',
};

function axis({ fromMs, toMs }: BarModel, { zone, nowMs }: View): Html {
  const precision = toMs - fromMs > COARSE_MS ? 'minute' : 'second';
  const label = (ms: number): Html => moment(new Date(ms).toISOString(), zone, precision);
  const end = nowMs - toMs < 2000 ? html`now` : label(toMs);
  return html`<p class="axis">
    <span>${label(fromMs)}</span><span class="middle">${label((fromMs + toMs) / 2)}</span><span>${end}</span>
  </p>`;
}

/** The bar in words, for whom it is not drawn. */
export function barCaption(model: BarModel, { zone, nowMs }: View): Html {
  const { earliestMs, latestMs, gaps, retentionMs, spans } = model;
  if (earliestMs === undefined || latestMs === undefined)
    return html`<p class="caption">Not restorable yet.</p>`;
  const current = nowMs - latestMs < 10_000;
  const precision = nowMs - earliestMs > COARSE_MS ? 'minute' : 'second';
  const since = html`<strong>Back to ${moment(new Date(earliestMs).toISOString(), zone, precision)}</strong>
    (${roughDuration(nowMs - earliestMs)})`;
  const until = current
    ? html`to the present moment`
    : html`until <strong>${moment(new Date(latestMs).toISOString(), zone)}</strong>`;
  const kept = retentionMs === undefined ? '' : ` Kept for ${roughDuration(retentionMs)}.`;
  return html`<p class="caption">
    ${since},
    ${until}${
      gaps.length > 0
        ? html`, <span class="warn-text">with ${plural(gaps.length, 'gap')}</span>`
        : spans.length > 1 && html`, over ${plural(spans.length, 'generation')}`
    }.${kept}
  </p>`;
}
