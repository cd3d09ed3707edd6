/**
 * docs/configuration.md is made from the table of keys. `npx vitest run test/config/reference.test.ts -u` writes it
 * anew after a change of the table.
 */

import { join, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { S3_PRESETS } from '../../src/config/stores/s3-presets.ts';
import { CONFIG, type KeySpec, type SectionSpec } from '../../src/config/schema.ts';

const file = join(dirname(fileURLToPath(import.meta.url)), '../../docs/configuration.md');

/** One row a provider: the endpoints that it is known by differ in nothing else. */
function providers(): string {
  const rows = new Map(S3_PRESETS.map((preset) => [preset.name, preset]));
  const lines = [...rows.values()].map((preset) => {
    const { forcePathStyle = true, contentMd5 = 'deletes' } = preset;
    const md5 = { all: 'every body', deletes: 'batch deletes', none: 'never' }[contentMd5];
    const region = preset.host.includes('(?<region>')
      ? 'as in the host'
      : `\`${preset.region ?? 'us-east-1'}\``;
    const { uploadConcurrency, maxParts } = preset;
    const cells = [preset.name, region, forcePathStyle, md5, uploadConcurrency, maxParts];
    return `| ${cells.map((cell) => String(cell ?? '')).join(' | ')} |`;
  });
  return lines.join('\n');
}

const INTRODUCTION = `# Configuration

One YAML file, the same as v0.3.13's. It is looked for at \`-config\`, then \`LITESTREAM_CONFIG\`, \`/etc/litestream.yml\`, \`config/litestream.yml\` and
\`litestream.yml\` in the working folder.

- **Variables.** \`$NAME\` and \`\${NAME}\` are replaced anywhere in the file before it is read; an unset one becomes empty and is warned about. There are no
  defaults (\`\${NAME:-x}\`). \`-no-expand-env\` turns it off.
- **Durations** are written as in Go: \`200ms\`, \`1h30m\`. A bare number counts as nanoseconds, as in v0.3.13, and is warned about.
- **Sizes**: \`64MiB\`, \`1.5GiB\` are powers of 1024, \`64MB\`, \`1.5GB\` of 1000; a bare number counts bytes.
- **Unknown keys** are accepted and warned about, with line, column and the closest known key.
- **Credentials.** A replica's own keys, else the global ones, else \`LITESTREAM_ACCESS_KEY_ID\` and \`LITESTREAM_SECRET_ACCESS_KEY\`, else the default
  credential chain of AWS (\`AWS_*\` variables, profile, web identity, container and instance metadata).
  \`LITESTREAM_AZURE_ACCOUNT_KEY\` stands for an abs replica's \`account-key\`; gcs takes Google's application default credentials.
  \`LITESTREAM_SFTP_PASSWORD\` is the password of an \`sftp://\` URL without one that is given to a command as an argument: all users of the machine see arguments until Node.js has started.
- **URLs.** \`file:///backups/app\`, \`s3://BUCKET/PATH\`, \`abs://ACCOUNT@CONTAINER/PATH\`, \`gcs://BUCKET/PATH\` (or \`gs://\`),
  \`sftp://USER:PASSWORD@HOST:PORT/PATH\`. With s3, the hosts \`BUCKET.s3.REGION.backblazeb2.com\`, \`BUCKET.REGION.digitaloceanspaces.com\`,
  \`BUCKET.s3.REGION.scw.cloud\`, \`BUCKET.REGION.linodeobjects.com\`, \`BUCKET.s3.filebase.com\`,
  \`BUCKET.ACCOUNT.r2.cloudflarestorage.com\`, \`BUCKET.fly.storage.tigris.dev\`, \`BUCKET.t3.storage.dev\` and \`BUCKET.localhost:PORT\` set the endpoint by themselves.
- **Providers** of S3 get the settings that they need, [by the host of their endpoint](#providers-of-s3).
- **Proxies.** S3, Azure and Google Cloud Storage are reached through the proxy that \`HTTPS_PROXY\` names (\`HTTP_PROXY\` for an endpoint without TLS) as with v0.3.13,
  else the one that \`ALL_PROXY\` names: \`http://USER:PASSWORD@HOST:PORT\`, or \`https://\` in front of TLS. Not through it go this machine and what \`NO_PROXY\` lists: names with their
  subdomains, addresses, networks such as \`10.0.0.0/8\`, each with \`:PORT\` if only that port is meant, or \`*\`. SFTP knows no proxy.
- Two databases that would write to one replica location are refused, both named.

## Providers of S3

What an endpoint is known to need is set by itself. A replica's own keys go before all of it. Everywhere bodies are signed and sent with their length, without newer checksums.

| provider | \`region\` | \`force-path-style\` | Content-MD5 (\`require-content-md5\`) | \`concurrency\` | \`max-parts\` |
|---|---|---|---|---|---|
${providers()}

Amazon's region is asked for when there is neither a region nor an endpoint. Other servers get path style and region \`us-east-1\`. Supabase needs \`region\`, that of the project; a
Garage or Ceph server is known by its name or the port of its documentation (3900, 7480). Storj is cheaper with \`part-size: 64MiB\`.
`;

function tables(title: string, section: SectionSpec): string {
  const rows = section.keys.map(
    (key) =>
      `| \`${key.name}\` | ${kind(key)} | ${key.defaultText === '' ? '' : `\`${key.defaultText}\``} | ${types(key)}${key.doc} |`,
  );
  const nested = section.keys
    .filter((key) => key.section)
    .map((key) => tables(heading(title, key), key.section!));
  return [
    `## ${title}\n\n| key | value | default | meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`,
    ...nested,
  ].join('\n');
}

const heading = (parent: string, key: KeySpec) =>
  `${parent === 'Top level' ? '' : `${parent}.`}${key.name}${key.kind === 'sections' ? '[]' : ''}`;

function kind({ kind: name }: KeySpec): string {
  const words = {
    bool: 'true or false',
    int: 'number',
    strings: 'list of strings',
    section: 'section',
    sections: 'list of sections',
  };
  return name in words ? words[name as keyof typeof words] : name;
}

function types({ types: only }: KeySpec): string {
  if (!only) return '';
  return `(${only.join(', ')}) `;
}

it('docs/configuration.md is the table of keys', async () => {
  await expect(`${INTRODUCTION}\n${tables('Top level', CONFIG)}`).toMatchFileSnapshot(file);
});
