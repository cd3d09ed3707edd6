/**
 * Bugs that are planted to see whether the suite finds them. Each is a change of text in src/; a text that is
 * not there, or not once, is an error.
 */

export interface Edit {
  /** Below src/. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** One edit, and more where the bug is kept out in several places. */
export interface Mutation extends Edit {
  readonly name: string;
  readonly also?: readonly Edit[];
  /** Where it is looked for: beginnings of names of groups or cases. */
  readonly groups: readonly string[];
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'release-before-overlap',
    file: 'engine/wal-follower.ts',
    from: '    const seen = this.#files.readWalIndex();\n    try {\n      next.begin();',
    to: '    this.#current.end();\n    const seen = this.#files.readWalIndex();\n    try {\n      next.begin();',
    // What was not copied is noticed when it reaches the database file.
    also: [
      {
        file: 'engine/database-session.ts',
        from: "    return this.#files.mainFile?.look() ?? { kind: 'same' };\n",
        to: "    return { kind: 'same' };\n",
      },
    ],
    groups: ['calls/continued/stop-read', 'calls/rotation/stop-read'],
  },
  {
    name: 'snapshot-before-its-segments',
    file: 'engine/snapshot.ts',
    from: '  await request.segmentsStored(hold.position, { held: true, signal: request.signal });\n',
    to: '  request.segmentsStored(hold.position, { held: true, signal: request.signal }).catch(() => undefined);\n',
    groups: ['calls/late-segments/segments-fail'],
  },
  {
    name: 'no-fsync-before-rename',
    file: 'base/durable-file.ts',
    from: '    await syncFile(handle);\n    const stats',
    to: '    const stats',
    groups: ['power/'],
  },
  {
    name: 'short-write-ignored',
    file: 'base/durable-file.ts',
    from: '    offset += bytesWritten;',
    to: '    offset += Math.max(bytesWritten, data.length);',
    groups: ['calls/'],
  },
  {
    name: 'retention-off-by-one',
    file: 'engine/retention.ts',
    from: 'const beforeIndex = successor ? undefined : because.index;',
    to: 'const beforeIndex = successor ? undefined : because.index + 1;',
    // Each plan is checked anew before it is carried out.
    also: [
      {
        file: 'engine/retention-invariant.ts',
        from: '  const { snapshots, segments, startMs, doomed } = deletion;\n',
        to: '  const { snapshots, segments, startMs } = deletion;\n  const doomed = new Set<string>();\n',
      },
    ],
    groups: ['clocks', 'calls/retention'],
  },
  {
    name: 'reason-cleared-too-early',
    file: 'engine/database.ts',
    from: '    await session.newGeneration(reason);',
    to: '    this.#restarts.done();\n    await session.newGeneration(reason);',
    groups: ['calls/restart'],
  },
  {
    name: 'identity-not-checked',
    file: 'engine/file-identity.ts',
    from: '    if (found !== identity) return',
    to: '    if (found === undefined) return',
    groups: ['files'],
  },
  {
    name: 'clock-believed',
    file: 'engine/restore-choice.ts',
    from: '    const { chosen, warnings } = storedLast(order.latest(rivals));',
    to: '    const { chosen, warnings } = { chosen: freshest(candidates), warnings: [] as string[] };',
    groups: ['clocks'],
  },
  {
    name: 'trailer-not-compared',
    file: 'engine/restore-wal.ts',
    from: '  const { generation, previous } = trailer;\n',
    to: '  const { generation, previous } = trailer;\n  if (generation !== undefined) return;\n',
    groups: ['objects'],
  },
  {
    name: 'list-believed',
    file: 'engine/replica-position.ts',
    from: '  if (sent.generation !== generation) return undefined;',
    to: "  if (sent.generation !== '') return undefined;",
    also: [
      {
        file: 'engine/replica-progress.ts',
        from: 'ifAbsent: key !== this.#rewrites',
        to: 'ifAbsent: false',
      },
      {
        file: 'engine/replica-presence.ts',
        from: '  const { store, held, signal } = target;\n  const { missing, foreign, doubtful }',
        to: '  if (list) return { finding: undefined, lies: false };\n  const { store, held, signal } = target;\n  const { missing, foreign, doubtful }',
      },
    ],
    groups: ['stores'],
  },
];
