/**
 * Who replicates a database, kept in its meta directory from the moment that the process has the database's lock to its
 * orderly end: so that "does not run", "never ran" and "ran and did not end in order" can be told apart.
 */

import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { readBootId } from '../base/boot-id.ts';
import { makeDirectories, writeFileDurably } from '../base/durable-file.ts';
import { systemCode, wrapError } from '../base/errors.ts';
import { holdFolder } from '../base/held-folder.ts';

const RECORD_FILE = 'replicate.json';
const VERSION = 1;

export interface ProcessRecord {
  readonly version: typeof VERSION;
  readonly pid: number;
  readonly hostname: string;
  /** Start of the process, in ISO 8601. */
  readonly startedAt: string;
  /** Of the kernel that it runs on, changes with every boot; null where there is none. */
  readonly bootId: string | null;
  /** In which process numbers mean the same; null where there is none. */
  readonly pidNamespace: string | null;
  /** When the kernel started it, in its ticks: tells it from a later process of that number. */
  readonly startTicks: string | null;
  /** Where it answers; null: nowhere. */
  readonly socket: string | null;
  /** It has ended in order, but this was not stored, in words; null while it runs. */
  readonly unstored: string | null;
}

/** The record of this process. */
export function describeThisProcess(startedAt: string, socket: string | null): ProcessRecord {
  return {
    version: VERSION,
    pid: process.pid,
    hostname: hostname(),
    startedAt,
    bootId: readBootId(),
    pidNamespace: readPidNamespace(),
    startTicks: readStartTicks(process.pid) ?? null,
    socket,
    unstored: null,
  };
}

/** Replaces the record. The meta directory is made if need be, but not the folder of the database. @throws LitestreamError */
export async function writeRecord(metaPath: string, record: ProcessRecord): Promise<void> {
  const path = join(metaPath, RECORD_FILE);
  try {
    await makeDirectories(metaPath, 0o700);
    await writeFileDurably(join(holdFolder(metaPath), RECORD_FILE), `${JSON.stringify(record, null, 2)}\n`);
  } catch (error) {
    throw wrapError(error, `write ${path}`);
  }
}

/** Whether there is one, of whomever. */
export function hasRecord(metaPath: string): boolean {
  return existsSync(join(metaPath, RECORD_FILE));
}

/** @throws LitestreamError 'permission' when it may be there but must not be read, 'io' */
export async function readRecord(metaPath: string): Promise<ProcessRecord | undefined> {
  const path = join(metaPath, RECORD_FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return undefined;
    throw wrapError(error, `read ${path}`);
  }
  try {
    const record = JSON.parse(text) as ProcessRecord;
    // A later version may have more fields, but these are for good.
    return typeof record.pid === 'number' && typeof record.startedAt === 'string' ? record : undefined;
  } catch {
    return undefined; // Written whole or not at all, so this is none of ours.
  }
}

/** Removes the record if it is of this process. @throws LitestreamError */
export async function removeRecord(metaPath: string): Promise<void> {
  const record = await readRecord(metaPath);
  if (record === undefined || !isThisProcess(record)) return;
  try {
    await rm(join(holdFolder(metaPath), RECORD_FILE), { force: true });
  } catch (error) {
    throw wrapError(error, `remove the record of this process in ${metaPath}`);
  }
}

function isThisProcess(record: ProcessRecord): boolean {
  return record.pid === process.pid && record.hostname === hostname();
}

/** Whether the process lives; 'unknown' when it is of another container or machine. */
export function lifeOf(record: ProcessRecord): 'alive' | 'dead' | 'unknown' {
  // Where none was known there may be one now.
  if (record.bootId !== null && record.bootId !== readBootId())
    return record.hostname === hostname() ? 'dead' : 'unknown';
  if (record.pidNamespace !== readPidNamespace()) return 'unknown';
  if (record.startTicks !== null) return readStartTicks(record.pid) === record.startTicks ? 'alive' : 'dead';
  try {
    process.kill(record.pid, 0);
    return 'alive';
  } catch (error) {
    return systemCode(error) === 'EPERM' ? 'alive' : 'dead';
  }
}

function readPidNamespace(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return null; // Not Linux, or hidden: the socket and the process number have to do.
  }
}

/** Undefined when there is no such process, or where that cannot be told. */
function readStartTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may hold anything; the start is the 22nd field, the 20th after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
