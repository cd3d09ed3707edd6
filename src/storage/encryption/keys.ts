/**
 * The keys of age encryption (https://age-encryption.org/v1): checks them, and makes and opens the headers in which
 * each object carries its own key. Secret keys get into no message.
 */

import { Decrypter, Encrypter, identityToRecipient } from 'age-encryption';
import { LitestreamError, messageOf } from '../../base/errors.ts';
import type { EncryptionConfig } from '../store-config.ts';
import { NONCE_SIZE, OVERHEAD } from './stream.ts';

const IDENTITY_PREFIX = 'AGE-SECRET-KEY-1';
/** Kinds of recipients that v0.3.13 does not know: it could not restore from what is encrypted for them. */
const FOREIGN_RECIPIENT = /^(?:age1pq1|age1tag1|age1tagpq1|age1[^1]+1|ssh-)/;

export interface NewHeader {
  /** Everything before the nonce. */
  readonly header: Uint8Array;
  readonly fileKey: Uint8Array;
}

/** @throws LitestreamError 'config' for the first key that is none; its message shows no secret */
export async function checkKeys({ recipients, identities }: EncryptionConfig): Promise<void> {
  for (const [at, recipient] of recipients.entries()) checkRecipient(recipient, at + 1);
  await publicKeysOf(identities);
}

function invalid(message: string): LitestreamError {
  return new LitestreamError('config', message);
}

function checkRecipient(recipient: string, number: number): void {
  const what = `age.recipients: item ${number}`;
  if (recipient.toUpperCase().startsWith('AGE-SECRET-KEY-')) {
    throw invalid(
      `${what} is a secret key: it belongs under identities, and its public key (age1…) under recipients`,
    );
  }
  if (FOREIGN_RECIPIENT.test(recipient)) {
    throw invalid(`${what} is not a native X25519 recipient (age1…), the only kind that is supported`);
  }
  try {
    new Encrypter().addRecipient(recipient);
  } catch {
    throw invalid(`${what} is not a recipient of age (age1…): check that it was copied whole`);
  }
}

/** The recipients that identities belong to: no secrets. @throws LitestreamError 'config' for one that is none */
export function publicKeysOf(identities: readonly string[]): Promise<string[]> {
  return Promise.all(identities.map((identity, at) => publicKeyOf(identity, at + 1)));
}

async function publicKeyOf(identity: string, number: number): Promise<string> {
  const what = `age.identities: item ${number}`;
  if (identity.startsWith('age1')) {
    throw invalid(`${what} is a public key: it belongs under recipients`);
  }
  if (!identity.startsWith(IDENTITY_PREFIX)) {
    throw invalid(`${what} is not a secret key of age (${IDENTITY_PREFIX}…)`);
  }
  try {
    return await identityToRecipient(identity);
  } catch {
    // What the library says holds the key.
    throw invalid(`${what} is not a valid secret key of age: check that it was copied whole`);
  }
}

/** A header of a new object for `recipients`, with its key. */
export async function newHeader(recipients: readonly string[]): Promise<NewHeader> {
  const encrypter = new Encrypter();
  let fileKey: Uint8Array | undefined;
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  // A recipient without a stanza: it only learns the key, which the library makes itself.
  encrypter.addRecipient({
    wrapFileKey: (key) => {
      fileKey = key.slice();
      return [];
    },
  });
  const empty = await encrypter.encrypt(new Uint8Array(0));
  if (fileKey === undefined) throw new LitestreamError('io', 'age made no key');
  return { header: empty.subarray(0, empty.byteLength - NONCE_SIZE - OVERHEAD), fileKey };
}

/**
 * The key of an object.
 * @param header everything before the nonce
 * @throws LitestreamError 'corrupt' when it is damaged or none of `identities` opens it
 */
export async function openHeader(header: Uint8Array, identities: readonly string[]): Promise<Uint8Array> {
  const decrypter = new Decrypter();
  let unmatched = false as boolean;
  for (const identity of identities) decrypter.addIdentity(identity);
  // Asked last: only when no other one has opened it.
  decrypter.addIdentity({
    unwrapFileKey: () => {
      unmatched = true;
      return null;
    },
  });
  try {
    return await decrypter.decryptHeader(header);
  } catch (error) {
    if (!unmatched) {
      throw new LitestreamError('corrupt', `the age header is damaged: ${messageOf(error)}`);
    }
    const names = await publicKeysOf(identities);
    throw new LitestreamError(
      'corrupt',
      `none of age.identities opens it: they are the keys of ${names.join(', ')}, it was encrypted for others`,
    );
  }
}
