/** What decorators of stores have in common: every call goes to the store inside, but those that they change. */

import { assert } from '../base/errors.ts';
import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StoreCapabilities,
} from './object-store.ts';

const OPTIONAL = ['stat', 'putIfAbsent', 'contentSize', 'removeAbandoned'] as const;

/** Members that not every store has. */
export type OptionalMember = (typeof OPTIONAL)[number];

/** Those of them that `store` has. */
export function optionalMembersOf(store: ObjectStore): OptionalMember[] {
  return OPTIONAL.filter((name) => store[name] !== undefined);
}

/** Changes nothing. Optional members are absent where they are in the store inside; to change one, override its `forward…` method. */
export abstract class ForwardingStore implements ObjectStore {
  readonly stat?: NonNullable<ObjectStore['stat']>;
  readonly putIfAbsent?: NonNullable<ObjectStore['putIfAbsent']>;
  readonly contentSize?: NonNullable<ObjectStore['contentSize']>;
  readonly removeAbandoned?: NonNullable<ObjectStore['removeAbandoned']>;
  protected readonly inner: ObjectStore;

  /** @param members the optional ones that it is to have; by default those of `inner` */
  constructor(inner: ObjectStore, members: readonly OptionalMember[] = optionalMembersOf(inner)) {
    this.inner = inner;
    if (members.includes('stat')) this.stat = (...args) => this.forwardStat(...args);
    if (members.includes('putIfAbsent')) this.putIfAbsent = (...args) => this.forwardPutIfAbsent(...args);
    if (members.includes('contentSize')) this.contentSize = (...args) => this.forwardContentSize(...args);
    if (members.includes('removeAbandoned')) {
      this.removeAbandoned = (...args) => this.forwardRemoveAbandoned(...args);
    }
  }

  get type(): string {
    return this.inner.type;
  }

  get location(): string {
    return this.inner.location;
  }

  get capabilities(): StoreCapabilities {
    return this.inner.capabilities;
  }

  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    return this.inner.list(prefix, options);
  }

  listPrefixes(prefix: string, options?: CallOptions): AsyncIterable<string> {
    return this.inner.listPrefixes(prefix, options);
  }

  get(key: string, options?: GetOptions): Promise<ObjectBody> {
    return this.inner.get(key, options);
  }

  put(key: string, body: Uint8Array | AsyncIterable<Uint8Array>, options?: PutOptions): Promise<ObjectInfo> {
    return this.inner.put(key, body, options);
  }

  delete(keys: readonly string[], options?: CallOptions): Promise<void> {
    return this.inner.delete(keys, options);
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  protected forwardStat(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    assert(this.inner.stat !== undefined, 'the store inside has stat');
    return this.inner.stat(key, options);
  }

  protected forwardPutIfAbsent(key: string, data: Uint8Array, options?: CallOptions): Promise<boolean> {
    assert(this.inner.putIfAbsent !== undefined, 'the store inside has putIfAbsent');
    return this.inner.putIfAbsent(key, data, options);
  }

  protected forwardContentSize(
    object: Pick<ObjectInfo, 'key' | 'sizeBytes'>,
    options?: CallOptions,
  ): Promise<number> {
    assert(this.inner.contentSize !== undefined, 'the store inside has contentSize');
    return this.inner.contentSize(object, options);
  }

  protected forwardRemoveAbandoned(prefix: string, before: Date, options?: CallOptions): Promise<number> {
    assert(this.inner.removeAbandoned !== undefined, 'the store inside has removeAbandoned');
    return this.inner.removeAbandoned(prefix, before, options);
  }
}
