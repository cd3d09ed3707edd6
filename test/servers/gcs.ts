/** Firebase's emulator of Google Cloud Storage. It moves data and checks nothing. */

import { fileURLToPath } from 'node:url';
import { startProcess } from './server-process.ts';
import type { RunningServer } from './server-process.ts';

export interface GcsEndpoint {
  readonly host: string;
  readonly port: number;
  /** Made at the first use. */
  readonly bucket: string;
}

const SCRIPT = fileURLToPath(new URL('gcs-emulator.mjs', import.meta.url));
const LISTENS = /listens on http:\/\/127\.0\.0\.1:(\d+)/;

/** @param modules - the folder that npm installed it in. */
export async function startGcsEmulator(modules: string): Promise<RunningServer<GcsEndpoint>> {
  const server = await startProcess({
    file: process.execPath,
    args: [SCRIPT, '--modules', modules],
    ready: (output) => LISTENS.test(output),
  });
  const port = Number(LISTENS.exec(server.output())?.[1]);
  return { endpoint: { host: '127.0.0.1', port, bucket: 'litestream' }, stop: server.stop };
}
