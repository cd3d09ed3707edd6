/** What is said of an object that is not encrypted where it has to be, and how the planner of a restore knows it. */

import { LitestreamError } from './errors.ts';

/** Objects whose plaintext is refused are damaged for everybody else: nothing of them is believed. */
class PlaintextRefusal extends LitestreamError {}

export function plaintextRefusal(): LitestreamError {
  return new PlaintextRefusal(
    'corrupt',
    'the object is not encrypted, and age.identities is set: either somebody has put it there, or it is from before ' +
      'encryption was turned on; restore another generation (-generation), or read what you know to be your own with ' +
      '-allow-plaintext, or age.allow-plaintext: true in the config file',
  );
}

/** Whether `error`, or what it wraps, is one. */
export function isPlaintextRefusal(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof PlaintextRefusal) return true;
  }
  return false;
}
