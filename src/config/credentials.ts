/** Hands LITESTREAM_* credentials to the default credential chain of AWS. */

const VARIABLES = [
  ['LITESTREAM_ACCESS_KEY_ID', 'AWS_ACCESS_KEY_ID'],
  ['LITESTREAM_SECRET_ACCESS_KEY', 'AWS_SECRET_ACCESS_KEY'],
] as const;

/** Copies each LITESTREAM_ variable to its AWS_ counterpart in `env` unless that has a value. Idempotent. */
export function exportCredentials(env: Record<string, string | undefined>): void {
  for (const [from, to] of VARIABLES) {
    const value = env[from];
    if (value !== undefined && value !== '' && (env[to] ?? '') === '') env[to] = value;
  }
}
