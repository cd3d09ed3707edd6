/** The objects of a plan, from several replicas, as those of one store. */

import { LitestreamError } from '../base/errors.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import type { RestorePlan } from './restore-plan.ts';

export interface RoutedObject {
  /** In the store that comes with it. */
  readonly key: string;
  readonly sizeBytes: number;
  readonly object: SnapshotInfo | SegmentInfo;
}

/**
 * @param stores by the names of the replicas
 * @returns the snapshot and the segments in the order of the plan, and where to read them
 */
export function routeObjects(
  { replica, sources, snapshot, segments }: RestorePlan,
  stores: ReadonlyMap<string, ObjectStore>,
): { readonly store: ObjectStore; readonly objects: readonly RoutedObject[] } {
  const names = [...new Set([replica, ...sources.values()])];
  const used = names.map((name) => storeOf(stores, name));
  const main = storeOf(stores, replica);
  const objects = [snapshot, ...segments].map((object) => {
    const name = sources.get(object) ?? replica;
    return { key: `${names.indexOf(name)}/${object.key}`, sizeBytes: object.sizeBytes, object };
  });
  const store: ObjectStore = {
    type: main.type,
    location: main.location,
    capabilities: {
      local: used.every(({ capabilities }) => capabilities.local),
      concurrency: Math.min(...used.map(({ capabilities }) => capabilities.concurrency)),
    },
    get(key, options) {
      const slash = key.indexOf('/');
      const chosen = used[Number(key.slice(0, slash))] ?? main;
      return chosen.get(key.slice(slash + 1), options);
    },
    list: (prefix, options) => main.list(prefix, options),
    listPrefixes: (prefix, options) => main.listPrefixes(prefix, options),
    put: (key, body, options) => main.put(key, body, options),
    delete: (keys, options) => main.delete(keys, options),
    close: () => main.close(),
  };
  return { store, objects };
}

function storeOf(stores: ReadonlyMap<string, ObjectStore>, name: string): ObjectStore {
  const store = stores.get(name);
  if (store === undefined) throw new LitestreamError('not-found', `there is no replica ${name}`);
  return store;
}
