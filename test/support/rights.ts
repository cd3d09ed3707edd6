/** What keys with few rights are good for, tried with the program as its users run it. */

import { expect } from 'vitest';
import { runLitestream, until } from './process.ts';
import type { LitestreamProcess } from './process.ts';
import type { Rig } from './process-rig.ts';
import { compareDatabases } from './sqlite.ts';

/** A key for a store: what a config says of it, and what the store lets it do. */
export interface StoreKey {
  /** Lines of a replica's entry. */
  readonly replica: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** What `doctor` says of the replica under `key` that is not ok, one line each, and how it ended. */
export async function complaintsOf(
  rig: Rig,
  key: StoreKey,
): Promise<{ readonly code: number | null; readonly lines: readonly string[] }> {
  const config = await rig.config({ replica: key.replica });
  const args = ['doctor', '-config', config];
  const { code, stdout } = await runLitestream({ binary: 'ours', args, env: key.env ?? {} });
  const [, ofStore = ''] = stdout.split(/^replica .*$/m);
  const lines = ofStore.split('\n').map((line) => line.trim());
  return { code, lines: lines.filter((line) => /^(warning|failure) /.test(line)) };
}

/** Starts `replicate` under `key` with a retention that has something to delete at once. */
export async function replicateUnder(rig: Rig, key: StoreKey): Promise<LitestreamProcess> {
  const retention = ['retention: 100ms', 'retention-check-interval: 50ms', 'snapshot-interval: 50ms'];
  return await rig.replicate({
    replica: [...key.replica, ...retention],
    env: key.env ?? {},
    database: ['min-checkpoint-page-count: 1', 'checkpoint-interval: 50ms'],
  });
}

/**
 * Replicates in two lives under `key`, which may not delete, and stores all that the application commits.
 * @param warnings - all that the log may warn of
 */
export async function expectReplicatesWithoutDeleting(
  rig: Rig,
  key: StoreKey,
  warnings: readonly RegExp[] = [/retention is left to the store: deleting is not permitted/],
): Promise<void> {
  const app = await rig.application();
  await app.exec('CREATE TABLE IF NOT EXISTS t (x)');
  const config = await rig.config({ replica: key.replica });
  for (let life = 0; life < 2; life++) {
    const litestream = await replicateUnder(rig, key);
    let n = 0;
    await until(async () => {
      await app.exec(`INSERT INTO t VALUES (${n++})`);
      return warnings.every((warning) => litestream.lines.some((line) => warning.test(line)));
    });
    const args = ['sync', '-wait', '-config', config];
    const synced = await runLitestream({ binary: 'ours', args, env: key.env ?? {} });
    expect(synced.code, synced.stderr).toBe(0);
    expect((await litestream.stop()).code).toBe(0);
    const complaints = litestream.lines.filter((line) => /level=(WARN|ERROR)/.test(line));
    expect(complaints.filter((line) => !warnings.some((warning) => warning.test(line)))).toEqual([]);
  }
}

/** Everything that only reads works under `key`: restoring to the state of the live database, verifying, and the lists. */
export async function expectReads(rig: Rig, key: StoreKey): Promise<void> {
  const { env = {} } = key;
  const config = await rig.config({ replica: key.replica });
  const restored = await rig.restored({ config, env });
  expect(await compareDatabases(rig.database, restored)).toBeUndefined();
  const run = async (...command: string[]): Promise<string> => {
    const args = [...command, '-config', config, rig.database];
    const { code, stdout, stderr } = await runLitestream({ binary: 'ours', args, env });
    expect(code, `${command.join(' ')}: ${stdout}${stderr}`).toBe(0);
    return stdout;
  };
  expect(await run('verify', '-replica-only')).toMatch(/: ok: \d+ objects of \d+ generations? are whole/);
  for (const command of ['timeline', 'snapshots', 'wal', 'generations']) {
    expect(await run(command), command).toMatch(/\b[0-9a-f]{16}\b/);
  }
}
