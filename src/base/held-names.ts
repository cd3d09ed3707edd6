/** What the paths of held folders (see held-folder.ts) are called in messages: a number tells nobody anything. */

const names = new Map<string, string>();

const HELD = /^\/proc\/self\/fd\/\d+|(?<=[\s"'(])\/proc\/self\/fd\/\d+/g;

/** @param path of the folder by its descriptor, which stays open */
export function nameHeld(path: string, name: string): void {
  names.set(path, name);
}

/** The text with each held folder by its name. */
export function withNames(text: string): string {
  return names.size === 0 ? text : text.replace(HELD, (path) => names.get(path) ?? path);
}
