/** The driver of Azure Blob Storage and Azurite. */

import { randomUUID } from 'node:crypto';
import {
  ContainerSASPermissions,
  StorageSharedKeyCredential,
  generateBlobSASQueryParameters,
} from '@azure/storage-blob';
import { describe, expect, it } from 'vitest';
import { openAbsStore } from '../../src/storage/abs/abs-store.ts';
import { ODD_PATH, describeStore } from '../storage/contract.ts';
import { describeReplication } from './replication.ts';
import { withRig } from '../support/process-rig.ts';
import { complaintsOf, expectReads, expectReplicatesWithoutDeleting } from '../support/rights.ts';
import type { StoreKey } from '../support/rights.ts';
import { describeServer } from './servers.ts';

describeServer('azurite', ({ host, port, accountName, accountKey, container }) => {
  const endpoint = `http://${host}:${port}/${accountName}`;
  const base = { type: 'abs', bucket: container, accountName, accountKey, endpoint } as const;

  describeStore(
    'AbsStore',
    async ({ through, wrongSecret, timeouts }) => {
      const address = await through({ host, port });
      const config = {
        ...base,
        path: `${randomUUID()}/${ODD_PATH}`,
        endpoint: `http://${address.host}:${address.port}/${accountName}`,
        accountKey: wrongSecret ?? accountKey,
      };
      return { store: openAbsStore(config, timeouts), cleanup: () => Promise.resolve() };
    },
    { protocol: 'http' },
  );

  // Azurite holds requests against the letters of a signature, as Azure does.
  describe('a shared access signature of docs/permissions.md', () => {
    const keyOf = (path: string, letters: string): StoreKey => {
      const sas = generateBlobSASQueryParameters(
        {
          containerName: container,
          permissions: ContainerSASPermissions.parse(letters),
          startsOn: new Date(Date.now() - 3_600_000),
          expiresOn: new Date(Date.now() + 3_600_000),
        },
        new StorageSharedKeyCredential(accountName, accountKey),
      );
      return {
        replica: [
          ...['type: abs', `bucket: ${container}`, `path: ${path}`, `endpoint: ${endpoint}`],
          ...[`account-name: ${accountName}`, `sas-token: "${sas.toString()}"`, 'sync-interval: 20ms'],
        ],
      };
    };

    it('with sp=rcwl replicates; with sp=rl restores, verifies and lists', async () => {
      await withRig(async (rig) => {
        const path = `rights-${randomUUID()}`;
        await expectReplicatesWithoutDeleting(rig, keyOf(path, 'rcwl'));
        await expectReads(rig, keyOf(path, 'rl'));
      });
    });

    it.each<[letters: string, code: number, lines: RegExp[]]>([
      ['rcwdl', 0, []],
      [
        'rcwl',
        0,
        [
          /^warning +delete: .*denied: make a sas-token whose sp has d \(.*replicating and restoring work without/,
        ],
      ],
      [
        'rl',
        1,
        [/^failure +put: .*whose sp has c and w \(.*; restoring works without, replicating does not$/],
      ],
      ['r', 1, [/^failure +list: .*whose sp has l \(/]],
      ['cwdl', 1, [/^failure +get: .*whose sp has r \(.*; neither restoring nor going on/]],
    ])('with sp=%s is told by doctor what it lacks', async (letters, code, lines) => {
      await withRig(async (rig) => {
        await (await rig.application()).exec('CREATE TABLE t (x)');
        const found = await complaintsOf(rig, keyOf(`doctor-${randomUUID()}`, letters));
        for (const [number, line] of lines.entries()) expect(found.lines[number]).toMatch(line);
        if (lines.length === 0) expect(found.lines).toEqual([]);
        expect(found.code).toBe(code);
      });
    });
  });

  describeReplication({
    conditionalPut: /^works$/,
    replica: (path) => [
      ...['type: abs', `bucket: ${container}`, `path: ${path}`, `endpoint: ${endpoint}`],
      ...[`account-name: ${accountName}`, 'sync-interval: 100ms'],
    ],
    env: { LITESTREAM_AZURE_ACCOUNT_KEY: accountKey },
    open: (path) => openAbsStore({ ...base, path }),
  });
});
