/** Takes the secrets out of URLs before they are shown. */

const MASK = 'xxxxx';

/**
 * `text` with the password of every URL in it replaced: `sftp://user:xxxxx@host/path`. Anything else stays as it is. A password whose
 * slash was not escaped is no part of a URL, and is one for whoever wrote it: it is replaced, too.
 */
export function redactUrl(text: string): string {
  return text.replace(/[^\s"]+/g, (word) => {
    for (let at = word.indexOf('://'); at >= 0 && word.includes('@', at); at = word.indexOf('://', at + 1)) {
      const credentials = credentialsIn(word, at + 3);
      const colon = credentials?.text.indexOf(':') ?? -1;
      if (credentials && colon >= 0)
        return `${word.slice(0, at + 3 + colon)}:${MASK}${word.slice(credentials.end)}`;
    }
    return word;
  });
}

/** `url` without the name and the password in it: either may be a key. */
export function withoutCredentials(url: string): string {
  const start = /^(?:[A-Za-z][\w+.-]*:\/\/)?/.exec(url)?.[0].length ?? 0;
  const credentials = credentialsIn(url, start);
  return credentials ? url.slice(0, start) + url.slice(credentials.end + 1) : url;
}

/** What stands before the host of a URL whose host, or that, begins at `start`; `end` is the place of its `@`. */
function credentialsIn(
  text: string,
  start: number,
): { readonly text: string; readonly end: number } | undefined {
  const rest = text.slice(start);
  const authority = /^[^/?#]*/.exec(rest)?.[0] ?? '';
  // Where there is none in its place, a port that is no number is the first part of a password.
  const isCut = !authority.includes('@') && /^[^:]*:(?!\d*$)/.test(authority);
  const end = isCut ? rest.lastIndexOf('@') : authority.lastIndexOf('@');
  return end < 0 ? undefined : { text: rest.slice(0, end), end: start + end };
}
