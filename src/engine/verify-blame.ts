/** From which object of a replica a page of a restored database is. Reads the WAL of the restore once more. */

import type { Position } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { decodeInOrder } from './restore-content.ts';
import { fetchInOrder } from './restore-fetch.ts';
import { listReplicas } from './restore-listing.ts';
import { planRestore } from './restore-plan.ts';
import { WalApplier } from './restore-wal.ts';

/**
 * The key of the object with the last image of page `pageNumber` up to `position`, as a restore takes it; undefined when
 * there is no restore. @throws what the store throws, 'corrupt' and 'gap' as a restore does
 */
export async function objectOfPage(
  { name, store }: { readonly name: string; readonly store: ObjectStore },
  pageNumber: number,
  at: {
    readonly position: Position;
    readonly pageSizeBytes: number;
    readonly parallelism: number;
    readonly signal: AbortSignal;
  },
): Promise<string | undefined> {
  const { position, pageSizeBytes, parallelism, signal } = at;
  const target = { upTo: position };
  const { generation } = position;
  const { listed } = await listReplicas([{ name, store }], { generation, parallelism, target, signal });
  const outcome = planRestore(listed, target);
  const [plan] = 'plans' in outcome ? outcome.plans : [];
  if (!plan) return undefined;
  let found = plan.snapshot.key;
  let reading = '';
  const applier = new WalApplier(
    {
      pageSizeBytes,
      full: false,
      put: (number) => {
        if (number === pageNumber) found = reading;
      },
      cut: () => undefined,
      flush: () => Promise.resolve(),
    },
    undefined,
  );
  const { segments, indexMax, endOffset } = plan;
  const contents = decodeInOrder(fetchInOrder(store, segments, { parallelism, signal }), segments.length, {
    transient: true,
  });
  let count = 0;
  for await (const { object, chunks } of contents) {
    reading = object.key;
    await applier.applySegment(object, chunks, object.index === indexMax ? endOffset : undefined);
    if (segments[++count]?.index !== object.index) applier.closeIndex(generation, object.index);
  }
  return found;
}
