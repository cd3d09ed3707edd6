/** OpenStack Swift with its S3 interface, one node, out of Debian's packages. It checks signatures and digests. */

import { execFile } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { unpackedPackages } from '../debian.ts';
import { answers, freePorts, startProcess } from '../server-process.ts';
import type { RunningServer, ServerProcess } from '../server-process.ts';
import { filesOf } from './configuration.ts';

export interface S3Endpoint {
  readonly host: string;
  readonly port: number;
  readonly region: string;
  /** There, and empty. */
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

const PACKAGES = new URL('packages.txt', import.meta.url);
const LAUNCH = fileURLToPath(new URL('launch.py', import.meta.url));
/** Debian's own: the packages hold modules for this one. */
const PYTHON = '/usr/bin/python3';
const PARTS = ['account', 'container', 'object', 'proxy'] as const;

/** Fetches Swift unless it is cached, and starts it on free ports. */
export async function startSwift(): Promise<RunningServer<S3Endpoint>> {
  const packages = (await fs.readFile(PACKAGES, 'utf8')).trim().split(/\s+/);
  const root = await unpackedPackages('swift', packages);
  const folder = await fs.mkdtemp(join(tmpdir(), 'swift-'));
  const processes: ServerProcess[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(processes.map((part) => part.stop()));
    await fs.rm(folder, { recursive: true, force: true });
  };
  try {
    const port = await startParts(root, folder, processes);
    return { endpoint: await withBucket(port), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Adds to `processes` what it started; the port of the S3 interface. */
async function startParts(root: string, folder: string, processes: ServerProcess[]): Promise<number> {
  const [account = 0, container = 0, object = 0, proxy = 0, memcached = 0] = await freePorts(5);
  const ports = { account, container, object, proxy, memcached };
  await fs.mkdir(join(folder, 'devices', 'disk'), { recursive: true });
  const files = filesOf({ folder, ports, user: userInfo().username });
  for (const [name, text] of Object.entries(files)) await fs.writeFile(join(folder, name), text);
  const env = {
    SWIFT_ETC: folder,
    PYTHONPATH: join(root, 'usr/lib/python3/dist-packages'),
    LD_LIBRARY_PATH: await libraryFolder(root),
    PYTHONWARNINGS: 'ignore',
    PYTHONDONTWRITEBYTECODE: '1',
  };
  const ringPorts = [account, container, object].map(String);
  await promisify(execFile)(PYTHON, [LAUNCH, 'rings', ...ringPorts], { env: { ...process.env, ...env } });
  const start = async (args: string[], ready: () => Promise<boolean>): Promise<void> => {
    processes.push(await startProcess({ file: PYTHON, args: [LAUNCH, ...args], env, ready }));
  };
  const memory = [join(root, 'usr/bin/memcached'), '-u', userInfo().username, '-l', '127.0.0.1', '-U', '0'];
  await Promise.all([
    start(['exec', ...memory, '-p', String(memcached)], () => Promise.resolve(true)),
    ...PARTS.map((part) => {
      const script = join(root, `usr/bin/swift-${part}-server`);
      const url = `http://127.0.0.1:${ports[part]}/healthcheck`;
      return start(['server', script, join(folder, `${part}.conf`)], () => answers(url));
    }),
  ]);
  return proxy;
}

async function libraryFolder(root: string): Promise<string> {
  const folders = await fs.readdir(join(root, 'usr/lib'));
  return join(root, 'usr/lib', folders.find((name) => name.endsWith('-linux-gnu')) ?? '');
}

async function withBucket(port: number): Promise<S3Endpoint> {
  const endpoint = {
    host: '127.0.0.1',
    port,
    region: 'us-east-1',
    bucket: 'litestream',
    accessKeyId: 'test:tester',
    secretAccessKey: 'testing',
  };
  const client = new S3Client({
    endpoint: `http://${endpoint.host}:${port}`,
    region: endpoint.region,
    forcePathStyle: true,
    credentials: { accessKeyId: endpoint.accessKeyId, secretAccessKey: endpoint.secretAccessKey },
  });
  try {
    await client.send(new CreateBucketCommand({ Bucket: endpoint.bucket }));
  } finally {
    client.destroy();
  }
  return endpoint;
}
