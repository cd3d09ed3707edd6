/** What config/ offers to the commands and the library. */

export { checkReplicable, describeLocation } from './check.ts';
export type { Config, HeartbeatOptions, Locate, LoggingOptions, SocketOptions } from './config.ts';
export { SOCKET_DEFAULTS } from './control.ts';
export { exportCredentials } from './credentials.ts';
export { ConfigError, formatPlace, type Diagnostic } from './diagnostic.ts';
export { expandEnv, type Env } from './expand-env.ts';
export { findDatabase, type FoundDatabase } from './find-database.ts';
export { loadConfig, loadConfigText, type LoadOptions } from './load.ts';
export { expandPath, findConfig, logicalCwd, type ConfigLocation, type Surroundings } from './paths.ts';
export { parseReplicaUrl } from './parse-replica-url.ts';
export { REPLICA_TYPES } from './replica-type.ts';
export { isUrl } from './replica-url.ts';
export { findPreset, type FoundPreset } from './stores/s3-presets.ts';
export { CONFIG, type KeySpec, type SectionSpec } from './schema.ts';
