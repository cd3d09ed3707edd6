/**
 * SQLite connections of a driver in a process of their own, on any Node.js: what runs is what was built. Requests come
 * over IPC; those for `thread` are answered by a worker thread.
 */

import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { sqliteDriver } from '../../dist/sqlite/driver.js';

const databases = new Map();
const statements = new Map();

const operations = {
  driver: () => ({ name: sqliteDriver().name, version: sqliteDriver().version }),
  open: ({ id, path, access }) => void databases.set(id, sqliteDriver().open(path, access)),
  exec: ({ id, sql }) => databases.get(id).exec(sql),
  all: ({ id, sql }) => databases.get(id).all(sql),
  prepare: ({ id, sql }) => void statements.set(id, databases.get(id).prepare(sql)),
  run: ({ id }) => statements.get(id).run(),
  inTransaction: ({ id }) => databases.get(id).inTransaction,
  close: ({ id }) => databases.get(id).close(),
  warn: ({ text, type }) => process.emitWarning(text, type),
};

function answer({ number, operation, argument }) {
  try {
    return { number, result: operations[operation](argument) };
  } catch (error) {
    return { number, error: error.message, code: sqliteDriver().codeOf(error) };
  }
}

if (isMainThread) {
  let thread;
  process.on('message', (request) => {
    if (!request.argument.thread) return void process.send(answer(request));
    thread ??= new Worker(new URL(import.meta.url)).on('message', (reply) => process.send(reply));
    thread.postMessage(request);
  });
} else {
  parentPort.on('message', (request) => parentPort.postMessage(answer(request)));
}
