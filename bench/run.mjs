/**
 * `npm run bench -- [--rows restore,snapshot,lag,idle,start,latency,read-only,remote,install] [--runs N]`: this program and the real v0.3.13 on the same
 * inputs, interleaved, medians, in one Markdown table. Needs Linux, a build (`npm run build`) and 3 GB of disk. `BENCH_PEER=DIR`
 * takes another checkout of this program, built, for v0.3.13; `BENCH_NODE=FILE` runs ours on another Node.js.
 */

import { promises as fs } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { CACHE } from './inputs.mjs';
import { ROWS } from './rows.mjs';
import { PEER, median } from './measure.mjs';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: Object.keys(ROWS).join(',') },
    runs: { type: 'string', default: '5' },
  },
});
const wanted = values.rows.split(',');
const unknown = wanted.filter((name) => !(name in ROWS));
if (unknown.length > 0)
  throw new Error(`no such rows: ${unknown.join(', ')}; there are ${Object.keys(ROWS).join(', ')}`);

/** Two significant digits are enough for a ratio, three for a value. */
function number(value) {
  if (!Number.isFinite(value)) return '-';
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

const lines = [`| measurement | unit | ours | ${PEER} | ours / ${PEER} |`, '| --- | --- | --- | --- | --- |'];
await fs.mkdir(CACHE, { recursive: true });
const work = await fs.mkdtemp(`${CACHE}/run-`);
try {
  for (const name of wanted) {
    for (const row of await ROWS[name]({ work, runs: Number(values.runs) })) {
      const [ours, theirs] = [median(row.ours), median(row.oracle)];
      const ratio = row.oracle.length === 0 ? '-' : number(ours / theirs);
      const line = `| ${row.title} | ${row.unit} | ${number(ours)} | ${number(theirs)} | ${ratio} |`;
      lines.push(line);
      process.stderr.write(`${line}\n`);
    }
  }
} finally {
  await fs.rm(work, { recursive: true, force: true });
}
const [cpu] = cpus();
console.log(
  `${process.platform} ${process.arch}, ${cpus().length} x ${cpu?.model.trim()}, Node ${process.version}\n`,
);
console.log(lines.join('\n'));
