/** Text of others, such as a server's message or a file's name, for a terminal: nothing in it is a command to it, or looks like another line. */

/** Control characters, those that turn the direction of text, halves of surrogate pairs, and other ends of lines. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/** One line: what cannot be seen stands there as Go and JSON write it, `\n`, `\u001b`. */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, escape);
}

/** The same for lines and tables: the ends of lines and tabs stay. JSON is JSON then, too. */
export function printableLines(text: string): string {
  return text.replaceAll(UNPRINTABLE, (char) => (char === '\n' || char === '\t' ? char : escape(char)));
}

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escape(char: string): string {
  return SHORT[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
