/**
 * What `doctor` says of a store: it writes objects of its own beside the generations, under a name that is none of
 * theirs, reads them back in every way that restoring does, and removes them whatever happens.
 */

import { createHash, randomBytes } from 'node:crypto';
import { formatBytes } from '../../base/byte-size.ts';
import { formatDuration } from '../../base/duration.ts';
import { hasCode, messageOf } from '../../base/errors.ts';
import type { ObjectInfo, ObjectStore, OpenOptions } from '../../storage/object-store.ts';
import type { StoreConfig } from '../../storage/store-config.ts';
import { checkCommitTimes } from './commit-checks.ts';
import { checkPreset } from './preset-check.ts';
import type { Report } from './report.ts';
import { checkSettings } from './setting-checks.ts';
import { suggestSetting } from './suggest.ts';

const SMALL_BYTES = 1000;
/** S3's smallest part. */
const PART_BYTES = 5 * 1024 ** 2;
const MIB = 1024 ** 2;
const CHUNK_BYTES = 64 * 1024;
/** Point-in-time restores go by the store's clock, with which the user's idea of a time should agree. */
const MAX_SKEW_MS = 10_000;
const CLEANUP_TIMEOUT_MS = 15_000;

/** What works without a right. */
const WRITING = 'restoring works without, replicating does not';
const READING = 'neither restoring nor going on after a restart works without';
const WRITTEN_ONCE = 'replicating and restoring work without, and nobody overwrites backups with this key';

export type OpenStore = (config: StoreConfig, options: OpenOptions) => Promise<ObjectStore>;

export interface StoreCheck {
  readonly config: StoreConfig;
  readonly report: Report;
  readonly open: OpenStore;
  readonly signal: AbortSignal;
  /** The time now, in epoch milliseconds. */
  readonly now: () => number;
}

/** Checks one store. Rejects only with 'aborted', after it has removed what it wrote. */
export async function checkStore(check: StoreCheck): Promise<void> {
  const { config, report, open } = check;
  checkSettings(config, report);
  if (config.type === 's3') checkPreset(config, report);
  const warn = (message: string): void => report.warning('store', message);
  const store = await report.attempt('open', () => open(config, { warn }));
  if (store === undefined) return;
  const probe = new StoreProbe(store, check);
  try {
    await probe.run();
  } finally {
    await probe.cleanUp();
    await store.close();
  }
}

class StoreProbe {
  readonly #store: ObjectStore;
  readonly #check: StoreCheck;
  readonly #report: Report;
  readonly #options: { readonly signal: AbortSignal };
  /** No generation is looked for outside of `generations/`. */
  readonly #prefix = `litestream-doctor-${randomBytes(8).toString('hex')}/`;
  /** What may be in the store, or have left something there, by its name below the prefix. */
  readonly #begun = new Set<string>();
  #inParts = false;

  constructor(store: ObjectStore, check: StoreCheck) {
    this.#store = store;
    this.#check = check;
    this.#report = check.report;
    this.#options = { signal: check.signal };
  }

  async run(): Promise<void> {
    if (!(await this.#checkReachable())) return;
    await checkCommitTimes(this.#store, this.#report, this.#check);
    const small = randomBytes(SMALL_BYTES);
    if (!(await this.#checkPut('small', small))) return;
    await this.#checkGet('small', small);
    await this.#checkRange('ranged get', 'small', { start: 100, end: 300 }, small.subarray(100, 300));
    await this.#checkOverwrite('small');
    await this.#checkConditionalPut('small');
    if (!(await this.#checkDelete('small'))) {
      this.#report.warning('multipart', 'not checked, as it would leave objects behind');
      return;
    }
    await this.#checkMultipart('large');
  }

  /** Whether it makes sense to go on. */
  async #checkReachable(): Promise<boolean> {
    try {
      await this.#list();
      this.#report.ok('list', 'works');
      return true;
    } catch (error) {
      if (hasCode(error, 'aborted')) throw error;
      const { config, open, signal } = this.#check;
      this.#report.failure('list', explain(error), await suggestSetting(config, open, signal));
      return false;
    }
  }

  async #checkPut(name: string, data: Uint8Array): Promise<boolean> {
    const { now } = this.#check;
    const startedMs = now();
    const info = await this.#report.attempt('put', () => this.#put(name, data), '', without(WRITING));
    if (info === undefined) return false;
    const endedMs = now();
    this.#report.ok(
      'put',
      `${formatBytes(data.length)} in ${formatDuration(Math.round(endedMs - startedMs))}`,
    );
    this.#checkClock(info.modifiedAt.getTime(), startedMs, endedMs);
    return true;
  }

  #checkClock(storeMs: number, startedMs: number, endedMs: number): void {
    // Stores count whole seconds.
    const behindMs = startedMs - (storeMs + 1000);
    const aheadMs = storeMs - endedMs;
    const skewMs = Math.round(Math.max(behindMs, aheadMs, 0) / 1000) * 1000;
    if (skewMs <= MAX_SKEW_MS) {
      this.#report.ok('clock', "agrees with the store's");
      return;
    }
    const direction = behindMs > 0 ? 'ahead of' : 'behind';
    this.#report.warning(
      'clock',
      `this machine is ${formatDuration(skewMs)} ${direction} the store, by whose time backups are restored`,
      "set this machine's clock (NTP)",
    );
  }

  async #checkGet(name: string, expected: Uint8Array): Promise<void> {
    const body = await this.#report.attempt('get', () => this.#get(name), '', without(READING));
    if (body === undefined) return;
    if (body.equals(expected)) this.#report.ok('get', 'the same bytes');
    else this.#report.failure('get', ...this.#differs(name));
  }

  #differs(name: string): [message: string, fix: string] {
    return [
      `${this.#store.location} gives other bytes for ${name} than were put`,
      'look for a proxy or cache in between',
    ];
  }

  async #checkRange(
    check: string,
    name: string,
    range: { readonly start: number; readonly end: number },
    expected: Uint8Array,
  ): Promise<void> {
    const fix =
      'restores of large snapshots need byte ranges: look for a proxy in between, or use another store';
    const body = await this.#attempt(check, () => this.#get(name, range), fix);
    if (body === undefined) return;
    if (body.equals(expected)) this.#report.ok(check, 'the same bytes');
    else
      this.#report.failure(check, `${this.#store.location} gives other bytes than the range asked for`, fix);
  }

  async #checkOverwrite(name: string): Promise<void> {
    const data = randomBytes(SMALL_BYTES + 1);
    try {
      await this.#put(name, data);
    } catch (error) {
      if (hasCode(error, 'aborted')) throw error;
      // Segments are put where nothing is, in any case.
      if (hasCode(error, 'permission')) this.#report.warning('overwrite', explain(error), WRITTEN_ONCE);
      else this.#report.failure('overwrite', explain(error), 'allow overwriting: uploads are tried again');
      return;
    }
    const body = await this.#attempt('overwrite', () => this.#get(name));
    if (body === undefined) return;
    if (body.equals(data)) this.#report.ok('overwrite', 'the new bytes are read at once');
    else this.#report.failure('overwrite', ...this.#differs(name));
  }

  /** What `name`, which is there, says of the store: nothing depends on it, so it is no fault when it is missing. */
  async #checkConditionalPut(name: string): Promise<void> {
    const putIfAbsent = this.#store.putIfAbsent?.bind(this.#store);
    const say = (text: string): void => this.#report.ok('conditional put', text);
    if (putIfAbsent === undefined) {
      say('not known to this kind of storage, and not needed');
      return;
    }
    try {
      const data = randomBytes(SMALL_BYTES);
      const written = await putIfAbsent(this.#prefix + name, data, this.#options);
      say(written ? 'the store ignores the condition; it is not needed' : 'works');
    } catch (error) {
      if (hasCode(error, 'aborted')) throw error;
      const why = hasCode(error, 'unsupported') ? '' : ` (${explain(error)})`;
      say(`the store does not take it; it is not needed${why}`);
    }
  }

  /** Whether objects can be deleted. */
  async #checkDelete(name: string): Promise<boolean> {
    try {
      await this.#store.delete([this.#prefix + name], this.#options);
      this.#begun.delete(name);
      const left = await this.#list();
      if (left.length === 0) {
        this.#report.ok('delete', 'works');
        return true;
      }
      this.#report.failure('delete', `${this.#store.location} still lists what was deleted`);
    } catch (error) {
      if (hasCode(error, 'aborted')) throw error;
      // An upload over SFTP goes to a temporary file, which has to be removed when the upload breaks.
      if (!hasCode(error, 'permission') || this.#store.type === 'sftp') {
        this.#report.failure('delete', explain(error));
      } else {
        this.#report.warning(
          'delete',
          explain(error),
          'replicating and restoring work without; allow deletes for retention, or let rules of the store delete old objects',
        );
      }
    }
    return false;
  }

  async #checkMultipart(name: string): Promise<void> {
    const { config } = this.#check;
    const partBytes = (config.type === 's3' ? config.partSizeBytes : undefined) ?? PART_BYTES;
    const body = new PatternBody(partBytes + MIB);
    this.#inParts = true;
    const info = await this.#attempt('multipart', () => this.#put(name, body.stream()));
    if (info === undefined) return;
    this.#inParts = false;
    const read = await this.#attempt('multipart', () => this.#digest(name));
    if (read === undefined) return;
    const [listed] = (await this.#attempt('multipart', () => this.#list())) ?? [];
    if (read !== body.digest() || listed?.sizeBytes !== body.sizeBytes) {
      this.#report.failure('multipart', ...this.#differs(name));
      return;
    }
    this.#report.ok(
      'multipart',
      `a stream of ${formatBytes(body.sizeBytes)}: the same bytes, listed with its size`,
    );
    const range = { start: partBytes - 100, end: partBytes + 100 };
    await this.#checkRange('range across parts', name, range, body.slice(range.start, range.end));
  }

  #attempt<T>(check: string, step: () => Promise<T>, fix = ''): Promise<T | undefined> {
    return this.#report.attempt(check, step, fix, explain);
  }

  #put(name: string, body: Uint8Array | AsyncIterable<Uint8Array>): Promise<ObjectInfo> {
    this.#begun.add(name);
    return this.#store.put(this.#prefix + name, body, this.#options);
  }

  async #get(name: string, range?: { readonly start: number; readonly end: number }): Promise<Buffer> {
    const { stream } = await this.#store.get(this.#prefix + name, { ...this.#options, range });
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(Uint8Array.from(chunk));
    return Buffer.concat(chunks);
  }

  async #digest(name: string): Promise<string> {
    const hash = createHash('sha256');
    const { stream } = await this.#store.get(this.#prefix + name, this.#options);
    for await (const chunk of stream) hash.update(chunk);
    return hash.digest('hex');
  }

  async #list(options = this.#options): Promise<ObjectInfo[]> {
    const objects: ObjectInfo[] = [];
    for await (const info of this.#store.list(this.#prefix, options)) objects.push(info);
    return objects;
  }

  /** Removes what is left, also after an abort. Says what it could not remove. */
  async cleanUp(): Promise<void> {
    if (this.#begun.size === 0) return;
    const options = { signal: AbortSignal.timeout(CLEANUP_TIMEOUT_MS) };
    try {
      const listed = (await this.#list(options)).map(({ key }) => key);
      if (listed.length > 0) await this.#store.delete(listed, options);
      await this.#removeTraces(new Set(listed), options);
    } catch (error) {
      const where = `${this.#prefix} in ${this.#store.location}`;
      this.#report.warning('clean-up', `cannot remove ${where} (${messageOf(error)})`, 'delete it by hand');
    }
  }

  /** Removes what no list shows: folders that an upload made before it was given up, and parts that we were not told of. */
  async #removeTraces(
    removed: ReadonlySet<string>,
    options: { readonly signal: AbortSignal },
  ): Promise<void> {
    const begun = [...this.#begun].map((name) => this.#prefix + name).filter((key) => !removed.has(key));
    const afterAll = new Date(this.#check.now() + 24 * 3600_000);
    try {
      if (begun.length > 0) await this.#store.delete(begun, options);
      if (this.#inParts) await this.#store.removeAbandoned?.(this.#prefix, afterAll, options);
    } catch (error) {
      // A key that may not ask for this may not have left it either, or it is in the hands of the store.
      if (!hasCode(error, 'permission', 'unsupported')) throw error;
    }
  }
}

/** What a message says, and of a missing right what works without it. */
function without(use: string): (error: unknown) => string {
  return (error) => (hasCode(error, 'permission') ? `${explain(error)}; ${use}` : explain(error));
}

/** The message without the operation and the name of our own that it begins with: the check says what was tried. */
function explain(error: unknown): string {
  return messageOf(error).replace(/^(?:list|put|get|delete) litestream-doctor-[0-9a-f]{16}\/[^:]*: /, '');
}

/** Bytes that are the same each time they are asked for, without being held in memory. */
class PatternBody {
  readonly sizeBytes: number;
  readonly #seed = randomBytes(16);

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- an AsyncIterable is what bodies are
  async *stream(): AsyncGenerator<Uint8Array, void, undefined> {
    yield* this.#chunks();
  }

  digest(): string {
    const hash = createHash('sha256');
    for (const chunk of this.#chunks()) hash.update(chunk);
    return hash.digest('hex');
  }

  /** Bytes [start, end). */
  slice(start: number, end: number): Buffer {
    const first = start - (start % CHUNK_BYTES);
    return Buffer.concat([...this.#chunks(first, end)]).subarray(start - first, end - first);
  }

  /** From the chunk that begins at `start` to the one that `end` is in. */
  *#chunks(start = 0, end = this.sizeBytes): Generator<Buffer, void, undefined> {
    for (let offset = start; offset < end; offset += CHUNK_BYTES) {
      const unit = createHash('sha256').update(this.#seed).update(String(offset)).digest();
      yield Buffer.alloc(Math.min(CHUNK_BYTES, this.sizeBytes - offset), unit);
    }
  }
}
