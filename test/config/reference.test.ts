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

function providers(): string {
  return [...new Set(S3_PRESETS.map(({ name }) => name))].join(', ');
}

const INTRODUCTION = `# Configuration

One YAML file, the same as v0.3.13's. It is looked for at \`-config\`, then \`LITESTREAM_CONFIG\`, \`/etc/litestream.yml\`, \`config/litestream.yml\` and
\`litestream.yml\` in the working folder.

- **Variables.** \`$NAME\` and \`\${NAME}\` are replaced anywhere in the file before it is read; an unset one becomes empty and is warned about. There are no
  defaults (\`\${NAME:-x}\`). \`-no-expand-env\` turns it off.
- **Durations** are written as in Go: \`200ms\`, \`1h30m\`. A bare number counts as nanoseconds, as in v0.3.13, and is warned about.
- **Unknown keys** are accepted and warned about, with line, column and the closest known key.
- **Credentials.** A replica's own keys, else the global ones, else \`LITESTREAM_ACCESS_KEY_ID\` and \`LITESTREAM_SECRET_ACCESS_KEY\`, else the default
  credential chain of AWS (\`AWS_*\` variables, profile, web identity, container and instance metadata).
  \`LITESTREAM_AZURE_ACCOUNT_KEY\` stands for an abs replica's \`account-key\`; gcs takes Google's application default credentials.
- **URLs.** \`file:///backups/app\`, \`s3://BUCKET/PATH\`, \`abs://ACCOUNT@CONTAINER/PATH\`, \`gcs://BUCKET/PATH\` (or \`gs://\`),
  \`sftp://USER:PASSWORD@HOST:PORT/PATH\`. With s3, the hosts \`BUCKET.s3.REGION.backblazeb2.com\`, \`BUCKET.REGION.digitaloceanspaces.com\`,
  \`BUCKET.s3.REGION.scw.cloud\`, \`BUCKET.REGION.linodeobjects.com\`, \`BUCKET.s3.filebase.com\`,
  \`BUCKET.ACCOUNT.r2.cloudflarestorage.com\`, \`BUCKET.fly.storage.tigris.dev\`, \`BUCKET.t3.storage.dev\` and \`BUCKET.localhost:PORT\` set the endpoint by themselves.
- **Providers.** By the host of the endpoint, these get the settings that they need (region, path style, signing, Content-MD5, parts of an upload at once):
  ${providers()}.
  Other servers get path style and region \`us-east-1\`. A replica's own keys go before all of it. Supabase needs \`region\`; Storj is cheaper with \`part-size: 64MiB\`.
- Two databases that would write to one replica location are refused, both named.
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
