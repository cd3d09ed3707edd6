/** Azurite, Microsoft's emulator of Azure Blob Storage. It checks keys and digests. */

import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { startProcess } from './server-process.ts';
import type { RunningServer } from './server-process.ts';

export interface AzureEndpoint {
  readonly host: string;
  readonly port: number;
  readonly accountName: string;
  /** Base64. */
  readonly accountKey: string;
  /** There, and empty. */
  readonly container: string;
}

const LISTENS = /successfully listens on http:\/\/127\.0\.0\.1:(\d+)/;

/** @param modules - the folder that npm installed it in. */
export async function startAzurite(modules: string): Promise<RunningServer<AzureEndpoint>> {
  const folder = await fs.mkdtemp(join(tmpdir(), 'azurite-'));
  // The account that it has built in would be as good, but its key stands in every scanner of leaked secrets.
  const accountName = 'litestream';
  const accountKey = Buffer.from('the key of an account of an emulator').toString('base64');
  const server = await startProcess({
    file: process.execPath,
    args: [
      join(modules, 'azurite/dist/src/blob/main.js'),
      ...['--blobHost', '127.0.0.1', '--blobPort', '0', '--location', folder],
      ...['--silent', '--disableTelemetry', '--skipApiVersionCheck'],
    ],
    env: { AZURITE_ACCOUNTS: `${accountName}:${accountKey}` },
    ready: (output) => LISTENS.test(output),
  });
  const stop = async (): Promise<void> => {
    await server.stop();
    await fs.rm(folder, { recursive: true, force: true });
  };
  try {
    const port = Number(LISTENS.exec(server.output())?.[1]);
    const endpoint = { host: '127.0.0.1', port, accountName, accountKey, container: 'litestream' };
    const credential = new StorageSharedKeyCredential(accountName, accountKey);
    const service = new BlobServiceClient(`http://127.0.0.1:${port}/${accountName}`, credential);
    await service.createContainer(endpoint.container);
    return { endpoint, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
