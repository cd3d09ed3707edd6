/**
 * What shim.c wrote down, replayed: the disk at any moment of a recording, with what was durable by then and what was not.
 * A write is durable when its file was synced after it, a name when its folder was.
 */

import { appendFileSync } from 'node:fs';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';

const RECORD_BYTES = 40;

interface FileRecord {
  readonly op: 'C' | 'W' | 'T' | 'S' | 'R' | 'L' | 'U' | 'D';
  readonly inode: number;
  readonly offset: number;
  readonly path: string;
  readonly to: string;
  readonly data: Buffer;
}

/** What the test knew at this moment of the recording. */
export interface Mark {
  /** So many commits had returned to the application. */
  readonly committed: number;
  readonly claimed: number;
}

export type Entry = FileRecord | (Mark & { readonly op: 'M' });

/** Puts a mark behind what is recorded so far. */
export function writeMark(log: string, mark: Mark): void {
  const text = Buffer.from(JSON.stringify(mark));
  const head = Buffer.alloc(RECORD_BYTES);
  head.writeUInt32LE('M'.charCodeAt(0), 0);
  head.writeUInt32LE(text.byteLength, 4);
  appendFileSync(log, Buffer.concat([head, text]));
}

export async function readRecording(log: string): Promise<Entry[]> {
  const bytes = await fs.readFile(log);
  const entries: Entry[] = [];
  for (let at = 0; at + RECORD_BYTES <= bytes.byteLength;) {
    const op = String.fromCharCode(bytes.readUInt32LE(at));
    const pathEnd = at + RECORD_BYTES + bytes.readUInt32LE(at + 4);
    const toEnd = pathEnd + bytes.readUInt32LE(at + 8);
    const end = toEnd + Number(bytes.readBigUInt64LE(at + 32));
    const path = bytes.toString('utf8', at + RECORD_BYTES, pathEnd);
    if (op === 'M') entries.push({ op, ...(JSON.parse(path) as Mark) });
    else {
      entries.push({
        op: op as FileRecord['op'],
        inode: Number(bytes.readBigUInt64LE(at + 16)),
        offset: Number(bytes.readBigInt64LE(at + 24)),
        path,
        to: bytes.toString('utf8', pathEnd, toEnd),
        data: bytes.subarray(toEnd, end),
      });
    }
    at = end;
  }
  return entries;
}

/** A change of content that may be lost. */
type Change = { readonly offset: number; readonly data: Buffer } | { readonly size: number };
/** A change of names in one folder that may be lost. */
type NameChange = { readonly name: string; readonly node: Node | undefined; readonly from?: string };

class Node {
  readonly isFolder: boolean;
  content: Buffer = Buffer.alloc(0);
  changes: Change[] = [];
  names = new Map<string, Node>();
  nameChanges: NameChange[] = [];
  /** Names as programs see them, durable or not. */
  seen = new Map<string, Node>();

  constructor(isFolder: boolean) {
    this.isFolder = isFolder;
  }

  settle(): void {
    for (const change of this.changes) this.content = changed(this.content, change);
    for (const change of this.nameChanges) rename(this.names, change);
    this.changes = [];
    this.nameChanges = [];
  }

  rename(change: NameChange): void {
    this.nameChanges.push(change);
    rename(this.seen, change);
  }
}

function changed(content: Buffer, change: Change): Buffer {
  if ('size' in change) {
    const next = Buffer.alloc(change.size);
    content.copy(next);
    return next;
  }
  const next = Buffer.alloc(Math.max(content.byteLength, change.offset + change.data.byteLength));
  content.copy(next);
  change.data.copy(next, change.offset);
  return next;
}

function rename(names: Map<string, Node>, { name, node, from }: NameChange): void {
  if (from !== undefined) names.delete(from);
  if (node) names.set(name, node);
  else names.delete(name);
}

/** What of that which was not durable is there after the loss: nothing, everything, or some of it by chance. */
export type Loss = 'nothing' | 'everything' | 'some';

export interface LossOptions {
  readonly random: () => number;
  /** By the path below the folder. */
  readonly kept: (path: string) => Loss;
}

export class Disk {
  readonly #root: string;
  readonly #top: Node;
  readonly #inodes = new Map<number, Node>();

  private constructor(root: string, top: Node) {
    this.#root = root;
    this.#top = top;
  }

  /** The folder as it is now, all of it durable. To be called before the recording begins. */
  static async read(root: string): Promise<Disk> {
    const disk = new Disk(root, new Node(true));
    await disk.#read(root, disk.#top);
    return disk;
  }

  async #read(path: string, folder: Node): Promise<void> {
    this.#inodes.set((await fs.stat(path)).ino, folder);
    for (const entry of await fs.readdir(path, { withFileTypes: true })) {
      const child = join(path, entry.name);
      if (!entry.isDirectory() && !entry.isFile()) continue;
      const node = new Node(entry.isDirectory());
      folder.names.set(entry.name, node);
      folder.seen.set(entry.name, node);
      if (node.isFolder) {
        await this.#read(child, node);
        continue;
      }
      node.content = await fs.readFile(child);
      this.#inodes.set((await fs.stat(child)).ino, node);
    }
  }

  /** The folder and the name that a path stands for. */
  #find(path: string): { folder: Node; name: string } | undefined {
    const parts = path.slice(this.#root.length + 1).split('/');
    const name = parts.pop() ?? '';
    let folder: Node | undefined = this.#top;
    for (const part of parts) folder = folder?.seen.get(part);
    return folder && name !== '' ? { folder, name } : undefined;
  }

  apply(entry: Entry): void {
    if (entry.op === 'M') return;
    const { op, inode, offset, path, to, data } = entry;
    const place = this.#find(path);
    if (op === 'W' || op === 'T') {
      this.#inodes.get(inode)?.changes.push(op === 'W' ? { offset, data } : { size: offset });
    } else if (op === 'S') this.#inodes.get(inode)?.settle();
    else if (!place) return;
    else if (op === 'C' || op === 'D') {
      const node = new Node(op === 'D');
      this.#inodes.set(inode, node);
      place.folder.rename({ name: place.name, node });
    } else if (op === 'U') place.folder.rename({ name: place.name, node: undefined });
    else this.#move(place, to, op === 'L');
  }

  #move({ folder, name }: { folder: Node; name: string }, to: string, keep: boolean): void {
    const node = folder.seen.get(name);
    const target = this.#find(to);
    if (!node || !target) return;
    const within = target.folder === folder && !keep;
    target.folder.rename({ name: target.name, node, ...(within ? { from: name } : {}) });
    if (!within && !keep) folder.rename({ name, node: undefined });
  }

  /** Replaces the folder by what is left after a power loss now. Leaves this disk as it is. */
  async write({ random, kept }: LossOptions, modifiedAt: Date): Promise<void> {
    await fs.rm(this.#root, { recursive: true, force: true });
    const writeFolder = async (path: string, folder: Node): Promise<void> => {
      await fs.mkdir(path, { mode: 0o700 });
      for (const [name, node] of left(folder.names, folder.nameChanges, kept(path), random)) {
        const child = join(path, name);
        // The wal-index is made anew by whoever comes first.
        if (name.endsWith('-shm')) continue;
        if (node.isFolder) await writeFolder(child, node);
        else await fs.writeFile(child, leftContent(node, kept(child), random), { mode: 0o600 });
        await fs.utimes(child, modifiedAt, modifiedAt);
      }
    };
    await writeFolder(this.#root, this.#top);
  }
}

/** Names reach the disk in their order. */
function left(
  durable: ReadonlyMap<string, Node>,
  changes: readonly NameChange[],
  kept: Loss,
  random: () => number,
): Map<string, Node> {
  const names = new Map(durable);
  const share = kept === 'some' ? random() : kept === 'everything' ? 1 : 0;
  for (const change of changes.slice(0, Math.round(share * changes.length))) rename(names, change);
  return names;
}

/** Writes reach the disk in any order, and not always whole. */
function leftContent({ content, changes }: Node, kept: Loss, random: () => number): Buffer {
  if (kept === 'nothing') return content;
  if (kept === 'everything') return changes.reduce(changed, content);
  const kind = random();
  const share = random();
  let result = content;
  for (const [i, change] of changes.entries()) {
    if (kind < 0.5 ? i >= share * changes.length : random() < 0.5) continue;
    const torn = 'data' in change && random() < 0.2 ? tear(change, random) : change;
    result = changed(result, torn);
  }
  return result;
}

const SECTOR_BYTES = 512;

function tear({ offset, data }: { offset: number; data: Buffer }, random: () => number): Change {
  const sectors = Math.floor((random() * data.byteLength) / SECTOR_BYTES);
  return { offset, data: data.subarray(0, sectors * SECTOR_BYTES) };
}
