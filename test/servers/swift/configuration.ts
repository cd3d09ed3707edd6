/** The configuration files of a Swift of one node, as small as its S3 interface allows. */

type Part = 'account' | 'container' | 'object' | 'proxy' | 'memcached';

export interface SwiftLayout {
  /** Holds these files, the rings and the data. */
  readonly folder: string;
  readonly ports: Readonly<Record<Part, number>>;
  /** Who runs it. */
  readonly user: string;
}

/** Text of each file by its name. */
export function filesOf(layout: SwiftLayout): Record<string, string> {
  const storage = (['account', 'container', 'object'] as const).map((part) => [
    `${part}.conf`,
    text({
      DEFAULT: { ...common(layout, part), devices: `${layout.folder}/devices`, mount_check: 'false' },
      'pipeline:main': { pipeline: `healthcheck ${part}-server` },
      'filter:healthcheck': { use: 'egg:swift#healthcheck' },
      [`app:${part}-server`]: { use: `egg:swift#${part}` },
    }),
  ]);
  return {
    ...(Object.fromEntries(storage) as Record<string, string>),
    'swift.conf': text({
      'swift-hash': { swift_hash_path_prefix: 'test', swift_hash_path_suffix: 'test' },
      'storage-policy:0': { name: 'one', default: 'yes' },
      // Signed requests have long headers.
      'swift-constraints': { max_header_size: '16384' },
    }),
    'proxy.conf': proxy(layout),
  };
}

function common({ folder, ports, user }: SwiftLayout, part: Part): Record<string, string> {
  return {
    bind_ip: '127.0.0.1',
    bind_port: String(ports[part]),
    // One process a part: its id is all there is to end.
    workers: '0',
    user,
    swift_dir: folder,
    fallocate_reserve: '0',
    // No syslog: without a socket there the log goes to the standard error output.
    log_address: `${folder}/no-log`,
  };
}

function proxy(layout: SwiftLayout): string {
  const filters: Record<string, Record<string, string>> = {
    catch_errors: {},
    gatekeeper: {},
    healthcheck: {},
    cache: { use: 'egg:swift#memcache', memcache_servers: `127.0.0.1:${layout.ports.memcached}` },
    listing_formats: {},
    s3api: { location: 'us-east-1', min_segment_size: '5242880', check_bucket_owner: 'false' },
    tempauth: { user_test_tester: 'testing .admin' },
    copy: {},
    slo: {},
    dlo: {},
    symlink: {},
    versioned_writes: { allow_object_versioning: 'true' },
  };
  return text({
    DEFAULT: common(layout, 'proxy'),
    'pipeline:main': { pipeline: `${Object.keys(filters).join(' ')} proxy-server` },
    'app:proxy-server': { use: 'egg:swift#proxy', account_autocreate: 'true' },
    ...Object.fromEntries(
      Object.entries(filters).map(([name, settings]) => [
        `filter:${name}`,
        { use: `egg:swift#${name}`, ...settings },
      ]),
    ),
  });
}

function text(sections: Readonly<Record<string, Readonly<Record<string, string>>>>): string {
  return Object.entries(sections)
    .map(([name, settings]) => {
      const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
      return `[${name}]\n${lines.join('')}`;
    })
    .join('\n');
}
