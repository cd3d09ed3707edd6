/** Makes an input short that still does what it did. */

/** Attempts, in all. */
const MAX_ATTEMPTS = 2000;

/** @param fails whether an input does it */
export async function minimize(
  input: Uint8Array,
  fails: (data: Uint8Array) => Promise<boolean>,
): Promise<Uint8Array> {
  let best = input;
  let attempts = 0;
  for (let size = Math.ceil(best.byteLength / 2); size > 0; size = size > 1 ? Math.ceil(size / 2) : 0) {
    // From the end: the beginning tells what the rest is.
    for (let end = best.byteLength; end > 0 && attempts < MAX_ATTEMPTS; end -= size) {
      const shorter = Buffer.concat([best.subarray(0, Math.max(0, end - size)), best.subarray(end)]);
      attempts++;
      if (await fails(shorter)) best = shorter;
    }
  }
  return best;
}
