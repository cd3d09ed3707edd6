/** Restores to many moments of a generation: each must be an exact prefix of the commits. */

import { promises as fs } from 'node:fs';
import type { Rig } from './process-rig.ts';
import { expectPrefix, readCommits, type CommitLog } from './workload.ts';

/** Restores tried by index and by time, of each. */
const MAX_TARGETS = 5;

/**
 * Every `-index` and `-timestamp` tried is an exact prefix of the commits, and later ones are no shorter.
 * @returns how many were tried
 */
export async function checkPointsInTime(rig: Rig, generation: string, whole: CommitLog): Promise<number> {
  const series = await targets(rig, generation);
  for (const { flag, values } of series) {
    let longest = 0;
    for (const value of values) {
      const path = await rig.restored({ args: ['-generation', generation, flag, value] });
      const log = await readCommits(path);
      await fs.rm(path);
      expectPrefix(log, whole);
      if (log.last < longest) throw new Error(`${flag} ${value} has ${log.last} commits, fewer than before`);
      longest = log.last;
    }
  }
  return series.reduce((sum, { values }) => sum + values.length, 0);
}

/** Some indexes of a generation, and some times from its snapshot on at which a segment was stored. */
async function targets(rig: Rig, generation: string): Promise<{ flag: string; values: string[] }[]> {
  const files = (await rig.replicaFiles()).filter((name) => name.startsWith(generation));
  const segments = files.filter((name) => name.includes('/wal/'));
  const time = async (name: string) =>
    Math.ceil((await fs.stat(`${rig.replica}/generations/${name}`)).mtimeMs);
  const first = Math.min(...(await Promise.all(files.filter((name) => !segments.includes(name)).map(time))));
  const times = (await Promise.all(segments.map(time))).filter((value) => value >= first);
  const indexes = [...new Set(segments.map((name) => name.split('/').at(-1)!.slice(0, 8)))];
  const sorted = times.sort((a, b) => a - b).map((value) => new Date(value).toISOString());
  return [
    { flag: '-index', values: pick(indexes, MAX_TARGETS) },
    { flag: '-timestamp', values: pick(sorted, MAX_TARGETS) },
  ];
}

/** At most `count` of `values`, evenly spread, in order. */
function pick<T>(values: readonly T[], count: number): T[] {
  const step = Math.max(1, Math.ceil(values.length / count));
  return values.filter((_, i) => i % step === 0);
}
