/** What the test server does for each S3 operation, once the request is known to be signed and whole. */

import type { IncomingHttpHeaders } from 'node:http';
import { crc32 } from './crc32.ts';
import { S3Fault } from './fault.ts';
import { md5 } from './objects.ts';
import type { Bucket, Listing, StoredObject } from './objects.ts';
import { document, texts } from './xml.ts';
import type { Xml } from './xml.ts';

export type S3Operation =
  | 'ListObjects'
  | 'ListObjectsV2'
  | 'GetBucketLocation'
  | 'HeadBucket'
  | 'DeleteObjects'
  | 'ListMultipartUploads'
  | 'GetObject'
  | 'HeadObject'
  | 'PutObject'
  | 'DeleteObject'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload'
  | 'Unknown';

/** A request as the test server understands it. */
export interface S3Request {
  /** From 1, in the order of arrival. */
  readonly number: number;
  readonly operation: S3Operation;
  readonly method: string;
  readonly bucket: string;
  /** Empty for operations on the bucket. */
  readonly key: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
}

export interface S3Response {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body: Buffer | string;
}

/** What is asked for, by method, path and query. */
export function operationOf(method: string, key: string, query: URLSearchParams): S3Operation {
  if (key === '') {
    if (method === 'GET' && query.has('location')) return 'GetBucketLocation';
    if (method === 'GET' && query.has('uploads')) return 'ListMultipartUploads';
    if (method === 'GET') return query.get('list-type') === '2' ? 'ListObjectsV2' : 'ListObjects';
    if (method === 'HEAD') return 'HeadBucket';
    return method === 'POST' && query.has('delete') ? 'DeleteObjects' : 'Unknown';
  }
  const multipart = query.has('uploadId');
  switch (method) {
    case 'GET':
      return 'GetObject';
    case 'HEAD':
      return 'HeadObject';
    case 'PUT':
      return multipart ? 'UploadPart' : 'PutObject';
    case 'DELETE':
      return multipart ? 'AbortMultipartUpload' : 'DeleteObject';
    case 'POST':
      if (query.has('uploads')) return 'CreateMultipartUpload';
      return multipart ? 'CompleteMultipartUpload' : 'Unknown';
    default:
      return 'Unknown';
  }
}

/** Refuses a body that is not the one whose digests the headers give. */
export function checkDigests(headers: IncomingHttpHeaders, body: Buffer): void {
  const digest = headers['content-md5'];
  if (digest !== undefined && digest !== md5(body).toString('base64')) {
    throw new S3Fault(400, 'BadDigest', 'The Content-MD5 is not that of the body.');
  }
  const crc = headers['x-amz-checksum-crc32'];
  if (crc !== undefined && crc !== crc32(body)) {
    throw new S3Fault(400, 'BadDigest', 'The CRC32 is not that of the body.');
  }
}

/** Does what `request` asks and gives the answer; throws an S3Fault to refuse. */
export function handle(request: S3Request, body: Buffer, bucket: Bucket, region: string): S3Response {
  const { operation, key, query, headers } = request;
  const uploadId = query.get('uploadId') ?? '';
  switch (operation) {
    case 'ListObjects':
    case 'ListObjectsV2':
      return list(request, bucket);
    case 'GetBucketLocation':
      return xml('LocationConstraint', region === 'us-east-1' ? '' : region);
    case 'HeadBucket':
      return empty(200, { 'x-amz-bucket-region': region });
    case 'DeleteObjects':
      return deleteObjects(headers, body, bucket);
    case 'ListMultipartUploads':
      return listUploads(query, bucket);
    case 'GetObject':
    case 'HeadObject':
      return getObject(headers, bucket.get(key));
    case 'PutObject': {
      checkConditions(headers, key, bucket);
      return empty(200, { etag: `"${bucket.put(key, Buffer.from(body)).etag}"` });
    }
    case 'DeleteObject':
      bucket.delete(key);
      return empty(204);
    case 'CreateMultipartUpload':
      return xml('InitiateMultipartUploadResult', [
        ['Bucket', request.bucket],
        ['Key', key],
        ['UploadId', bucket.begin(key)],
      ]);
    case 'UploadPart': {
      const etag = bucket.putPart(uploadId, key, Number(query.get('partNumber')), Buffer.from(body));
      return empty(200, { etag: `"${etag}"` });
    }
    case 'CompleteMultipartUpload': {
      checkConditions(headers, key, bucket);
      const text = body.toString();
      const etags = texts(text, 'ETag');
      const parts = texts(text, 'PartNumber').map((n, place) => ({
        number: Number(n),
        etag: etags[place] ?? '',
      }));
      const object = bucket.complete(uploadId, key, parts);
      return xml('CompleteMultipartUploadResult', [
        ['Key', key],
        ['ETag', `"${object.etag}"`],
      ]);
    }
    case 'AbortMultipartUpload':
      bucket.abort(uploadId, key);
      return empty(204);
    case 'Unknown':
      throw new S3Fault(501, 'NotImplemented', 'The operation is not implemented.');
  }
}

function empty(status: number, headers: Record<string, string> = {}): S3Response {
  return { status, headers, body: '' };
}

function xml(name: string, content: string | Xml[], status = 200): S3Response {
  return { status, headers: { 'content-type': 'application/xml' }, body: document(name, content) };
}

/** The answer for a refusal. */
export function faultResponse(fault: S3Fault): S3Response {
  const fields = Object.entries(fault.fields).map(([name, text]): Xml => [name, text]);
  return xml('Error', [['Code', fault.code], ['Message', fault.message], ...fields], fault.status);
}

function list(request: S3Request, bucket: Bucket): S3Response {
  const { query } = request;
  const v2 = request.operation === 'ListObjectsV2';
  const [prefix, delimiter] = [query.get('prefix') ?? '', query.get('delimiter') ?? ''];
  const token = query.get('continuation-token');
  const after = v2
    ? token === null
      ? (query.get('start-after') ?? '')
      : Buffer.from(token, 'base64url').toString()
    : (query.get('marker') ?? '');
  const maxKeys = Math.min(1000, Number(query.get('max-keys') ?? 1000));
  const page = bucket.list(prefix, delimiter, after, maxKeys);
  const show = (text: string): string =>
    query.get('encoding-type') === 'url' ? encodeURIComponent(text).replaceAll('%2F', '/') : text;
  const content: Xml[] = [
    ['Name', request.bucket],
    ['Prefix', show(prefix)],
    ['MaxKeys', maxKeys],
    ['IsTruncated', page.next !== undefined],
    ...entries(page, show),
  ];
  if (v2) content.push(['KeyCount', page.entries.length]);
  if (page.next !== undefined) {
    if (v2) content.push(['NextContinuationToken', Buffer.from(page.next).toString('base64url')]);
    else if (delimiter !== '') content.push(['NextMarker', show(page.next)]);
  }
  return xml('ListBucketResult', content);
}

function entries(page: Listing, show: (text: string) => string): Xml[] {
  return page.entries.map((entry): Xml => {
    if ('prefix' in entry) return ['CommonPrefixes', [['Prefix', show(entry.prefix)]]];
    const { key, etag, data, modifiedAt } = entry.object;
    return [
      'Contents',
      [
        ['Key', show(key)],
        ['LastModified', modifiedAt.toISOString()],
        ['ETag', `"${etag}"`],
        ['Size', data.length],
        ['StorageClass', 'STANDARD'],
      ],
    ];
  });
}

/** Unfinished uploads by key and id, in pages of ten: S3's have a thousand. */
function listUploads(query: URLSearchParams, bucket: Bucket): S3Response {
  const [prefix, keyMarker] = [query.get('prefix') ?? '', query.get('key-marker') ?? ''];
  const idMarker = query.get('upload-id-marker') ?? '';
  const left = [...bucket.uploads]
    .map(([id, { key, begunAt }]) => ({ id, key, begunAt }))
    .filter(
      ({ key, id }) => key.startsWith(prefix) && (key > keyMarker || (key === keyMarker && id > idMarker)),
    )
    .sort((a, b) => (a.key === b.key ? (a.id < b.id ? -1 : 1) : a.key < b.key ? -1 : 1));
  const page = left.slice(0, 10);
  const last = page.at(-1);
  const more = last !== undefined && left.length > page.length;
  return xml('ListMultipartUploadsResult', [
    ['IsTruncated', more],
    ...(more
      ? ([
          ['NextKeyMarker', last.key],
          ['NextUploadIdMarker', last.id],
        ] as Xml[])
      : []),
    ...page.map(({ id, key, begunAt }): Xml => [
      'Upload',
      [
        ['Key', key],
        ['UploadId', id],
        ['Initiated', begunAt.toISOString()],
      ],
    ]),
  ]);
}

function getObject(headers: IncomingHttpHeaders, object: StoredObject): S3Response {
  const { data, etag, modifiedAt } = object;
  const common = {
    etag: `"${etag}"`,
    'last-modified': modifiedAt.toUTCString(),
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
  };
  const range = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '');
  if (range === null) return { status: 200, headers: common, body: data };
  const suffix = range[1] === '';
  const start = suffix ? Math.max(0, data.length - Number(range[2])) : Number(range[1]);
  const end = suffix || range[2] === '' ? data.length : Math.min(data.length, Number(range[2]) + 1);
  if (start >= end) throw new S3Fault(416, 'InvalidRange', 'The requested range is not satisfiable.');
  const contentRange = { 'content-range': `bytes ${start}-${end - 1}/${data.length}` };
  return { status: 206, headers: { ...common, ...contentRange }, body: data.subarray(start, end) };
}

function checkConditions(headers: IncomingHttpHeaders, key: string, bucket: Bucket): void {
  const wanted = headers['if-match']?.replaceAll('"', '');
  const failed =
    (headers['if-none-match'] === '*' && bucket.has(key)) ||
    (wanted !== undefined && (!bucket.has(key) || bucket.get(key).etag !== wanted));
  if (failed) throw new S3Fault(412, 'PreconditionFailed', 'A precondition did not hold.');
}

function deleteObjects(headers: IncomingHttpHeaders, body: Buffer, bucket: Bucket): S3Response {
  if (headers['content-md5'] === undefined && headers['x-amz-checksum-crc32'] === undefined) {
    throw new S3Fault(400, 'InvalidRequest', 'Missing required header for this request: Content-MD5.');
  }
  const text = body.toString();
  const keys = texts(text, 'Key');
  if (keys.length === 0 || keys.length > 1000)
    throw new S3Fault(400, 'MalformedXML', 'The XML is not valid.');
  for (const key of keys) bucket.delete(key);
  const quiet = texts(text, 'Quiet')[0] === 'true';
  return xml('DeleteResult', quiet ? [] : keys.map((key): Xml => ['Deleted', [['Key', key]]]));
}
