/** Lists and errors of S3, in XML, through the SDK. */

import { openS3Store } from '../../../src/storage/s3/s3-store.ts';
import { PATIENT, PageServer, XML_WORDS, pagesOf } from '../store-parts.ts';
import type { FuzzTarget } from '../target.ts';

const server = new PageServer('application/xml', (endpoint) =>
  openS3Store(
    {
      ...({ type: 's3', bucket: 'b', path: '', forcePathStyle: true, skipVerify: false } as const),
      ...{ endpoint, accessKeyId: 'id', secretAccessKey: 'secret' },
    },
    PATIENT,
  ),
);

function page(key: string, token?: string): string {
  const more = token === undefined ? 'false' : 'true';
  const next = token === undefined ? '' : `<NextContinuationToken>${token}</NextContinuationToken>`;
  return `<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>${more}</IsTruncated><Contents><Key>${key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"e"</ETag><Size>12</Size></Contents><CommonPrefixes><Prefix>a/c/</Prefix></CommonPrefixes>${next}</ListBucketResult>`;
}

export const target: FuzzTarget = {
  name: 's3-list',
  seeds: () => [
    pagesOf('200', page('a/1', 't1'), page('a/2', 't2'), page('a/3')),
    pagesOf('200', page('a/1')),
    pagesOf(
      '403',
      '<Error><Code>AccessDenied</Code><Message>no &#27;[2J</Message><RequestId>1</RequestId></Error>',
    ),
    pagesOf('404', '<?xml version="1.0"?><Error><Code>NoSuchBucket</Code><BucketName>b</BucketName></Error>'),
    pagesOf('503 text/plain', 'slow down'),
  ],
  dictionary: [
    ...XML_WORDS,
    ...[
      '<Contents>',
      '</Contents>',
      '<Key>',
      '</Key>',
      '<Size>',
      '<IsTruncated>true</IsTruncated>',
      '<Code>',
      '<Error>',
    ],
    ...[
      '<NextContinuationToken>',
      'SlowDown',
      'InternalError',
      'RequestTimeTooSkewed',
      '<Prefix>',
      'ListBucketResult',
    ],
  ],
  run: (data) => server.check(data),
  close: () => server.close(),
};
