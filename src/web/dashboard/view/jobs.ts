/** Restores that run or have ended. */

import type { RestoreJob } from '../../../control/restore-jobs.ts';
import { type Html, html } from './html.ts';
import type { Overview, View } from './overview.ts';
import { ago, byteWords, durationWords, moment, plural } from './words.ts';

export function jobList({ jobs, readOnly }: Overview, view: View): Html | false {
  if (jobs.length === 0) return false;
  return html`<section class="jobs" aria-labelledby="jobs-title">
    <h2 id="jobs-title">Restores</h2>
    <ul>
      ${jobs.map((job) => jobItem(job, view, readOnly))}
    </ul>
  </section>`;
}

function jobItem(job: RestoreJob, view: View, readOnly: boolean): Html {
  const { id, database, outputPath, timestamp, state, error, sizeBytes, endedAt } = job;
  const what = timestamp === null ? html`the latest state` : html`${moment(timestamp, view.zone)}`;
  return html`<li class="job ${state}" data-key="${id}">
    <p>
      <strong>${outputPath.slice(outputPath.lastIndexOf('/') + 1)}</strong>
      <span class="note">${database} at ${what}</span>
    </p>
    ${state === 'running' && progress(job, view)}
    ${
      state === 'done' &&
      html`<p class="job-end">
        <span class="good-text">✓ Restored</span> ${byteWords(sizeBytes ?? 0)},
        ${endedAt !== null && ago(endedAt, view.nowMs)}:
        <code>${outputPath}</code>
      </p>`
    }
    ${state === 'failed' && html`<p class="job-end" role="alert"><span class="bad-text">✗ Failed</span> ${error}. Nothing was written.</p>`}
    ${state === 'cancelled' && html`<p class="job-end">Cancelled. Nothing was written.</p>`}
    <span class="actions needs-script">
      ${state === 'running' && !readOnly && html`<button type="button" data-cancel="${id}" data-database="${database}">Cancel</button>`}
      ${state === 'done' && !readOnly && html`<a class="button" download href="download?id=${encodeURIComponent(id)}&amp;database=${encodeURIComponent(database)}">Download</a>`}
    </span>
  </li>`;
}

function progress(
  { bytesDone, bytesTotal, segmentsDone, segmentsTotal, startedAt }: RestoreJob,
  { nowMs }: View,
): Html {
  if (bytesTotal === 0)
    return html`<p class="note">Listing the replica, ${durationWords(nowMs - Date.parse(startedAt))}</p>`;
  const percent = Math.floor((bytesDone / bytesTotal) * 100);
  return html`<progress max="${bytesTotal}" value="${bytesDone}" aria-label="Restored">${percent} %</progress>
    <p class="note">
      ${percent} %: ${byteWords(bytesDone)} of ${byteWords(bytesTotal)}, ${segmentsDone} of
      ${plural(segmentsTotal, 'segment')}
    </p>`;
}
