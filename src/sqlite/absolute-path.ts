/**
 * An absolute path of the same file. Not by path functions: those resolve `..` without looking at links.
 */
export function absolutePath(path: string): string {
  return path.startsWith('/') ? path : `${process.cwd()}/${path}`;
}
