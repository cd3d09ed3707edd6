/** The `age` section of a replica: which keys there are. What they must be, storage/encryption knows. */

import { hasCode } from '../base/errors.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import type { EncryptionConfig } from '../storage/store-config.ts';
import type { Section } from './decode.ts';
import type { ReplicaContext } from './replica-context.ts';

/** Undefined without such a section. Throws what `context.fail` makes of one that encrypts nothing. */
export function encryptionFromSection(
  section: Section,
  context: ReplicaContext,
): EncryptionConfig | undefined {
  const age = section.section('age');
  if (age === undefined) return undefined;
  const keys = (name: 'recipients' | 'identities'): string[] =>
    age.strings(name).flatMap((text, at) => {
      const lines = keyLines(text);
      if (lines.length > 0) return lines;
      throw context.fail(`age.${name}: item ${at + 1} is empty`, age.startOf(name));
    });
  const allowPlaintext = age.bool('allow-plaintext') ?? false;
  const encryption = {
    recipients: keys('recipients'),
    identities: keys('identities'),
    ...(allowPlaintext ? { allowPlaintext } : {}),
  };
  if (encryption.recipients.length + encryption.identities.length === 0) {
    throw context.fail(
      'age has neither recipients nor identities: nothing would be encrypted',
      section.startOf('age'),
    );
  }
  return encryption;
}

/** One item may be a whole key file, as in v0.3.13: a key a line, comments and empty lines between them. */
function keyLines(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && !line.startsWith('#'));
}

/** Checks the keys of all replicas. @throws what `fail` makes of the first malformed one */
export async function checkEncryption(
  databases: readonly DatabaseOptions[],
  fail: (message: string, replica: ReplicaOptions) => Error,
): Promise<void> {
  const replicas = databases.flatMap(({ replicas }) => replicas);
  for (const replica of replicas) {
    const { encryption } = replica.store;
    if (encryption === undefined) continue;
    // Loaded by those who encrypt only.
    const { checkKeys } = await import('../storage/encryption/keys.ts');
    try {
      await checkKeys(encryption);
    } catch (error) {
      throw hasCode(error, 'config') ? fail(error.message, replica) : error;
    }
  }
}

/** Why replicating, which stores and may validate, cannot do what the section asks for; undefined when it can. */
export function encryptionProblem({ store, validationIntervalMs }: ReplicaOptions): string | undefined {
  const { encryption } = store;
  if (encryption === undefined) return undefined;
  if (encryption.recipients.length === 0) {
    return 'age.recipients is missing: with identities alone nothing can be encrypted, and nothing is stored unencrypted';
  }
  if (encryption.identities.length === 0 && validationIntervalMs > 0) {
    return 'validation-interval needs age.identities: a backup cannot be validated without decrypting it';
  }
  return undefined;
}
