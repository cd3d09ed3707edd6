/** What servers say of an object's content by an ETag. */

/** As it is in answers and in listings, where some leave the quotes out; a proxy may call it weak. */
export function versionOf(etag: string | undefined): string | undefined {
  return etag?.replace(/^W\//, '').replaceAll('"', '');
}
