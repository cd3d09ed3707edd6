/** Takes the secrets out of URLs before they are shown. */

const PASSWORD = /([A-Za-z][\w+.-]*:\/\/[^\s/?#"'@:]*):[^\s/?#"']*@/g;

/** `text` with the password of every URL in it replaced: `sftp://user:xxxxx@host/path`. Anything else stays as it is. */
export function redactUrl(text: string): string {
  return text.replace(PASSWORD, '$1:xxxxx@');
}

/** `url` without the name and the password in it: either may be a key. */
export function withoutCredentials(url: string): string {
  return url.replace(/^([A-Za-z][\w+.-]*:\/\/)?[^/?#]*@/, '$1');
}
