/** Lists and errors of Azure, in XML, through the SDK. */

import { openAbsStore } from '../../../src/storage/abs/abs-store.ts';
import { PATIENT, PageServer, XML_WORDS, pagesOf } from '../store-parts.ts';
import type { FuzzTarget } from '../target.ts';

const server = new PageServer('application/xml', (endpoint) =>
  openAbsStore(
    {
      ...({ type: 'abs', bucket: 'b', path: '', accountName: 'account' } as const),
      ...{ accountKey: Buffer.from('key').toString('base64'), endpoint: `${endpoint}/account` },
    },
    PATIENT,
  ),
);

function page(name: string, marker = ''): string {
  return `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="x" ContainerName="b"><Blobs><Blob><Name>${name}</Name><Properties><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT</Last-Modified><Etag>0x1</Etag><Content-Length>12</Content-Length></Properties></Blob><BlobPrefix><Name>a/c/</Name></BlobPrefix></Blobs><NextMarker>${marker}</NextMarker></EnumerationResults>`;
}

export const target: FuzzTarget = {
  name: 'abs-list',
  seeds: () => [
    pagesOf('200', page('a/1', 'm1'), page('a/2', 'm2'), page('a/3')),
    pagesOf('200', page('a/1')),
    pagesOf(
      '403',
      '<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code><Message>no</Message></Error>',
    ),
    pagesOf(
      '404',
      '<?xml version="1.0"?><Error><Code>ContainerNotFound</Code><Message>&#27;[2J</Message></Error>',
    ),
    pagesOf('503 text/plain', 'slow down'),
  ],
  dictionary: [
    ...XML_WORDS,
    ...[
      '<Blob>',
      '</Blob>',
      '<Blobs>',
      '</Blobs>',
      '<Blobs/>',
      '<Name>',
      '</Name>',
      '<Content-Length>',
      '<NextMarker>',
    ],
    ...[
      '<Properties>',
      '<BlobPrefix>',
      'EnumerationResults',
      'ServerBusy',
      '<Name Encoded="true">',
      '<Last-Modified>',
    ],
  ],
  run: (data) => server.check(data),
  close: () => server.close(),
};
