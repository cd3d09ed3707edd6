/** The little XML that S3's interface needs. */

type Content = string | number | boolean | Xml[];
/** An element: name and content. */
export type Xml = readonly [name: string, content: Content];

/** A document with one root element in S3's namespace. */
export function document(name: string, content: Content): string {
  const root = `<${name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${inner(content)}</${name}>`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n${root}`;
}

function inner(content: Content): string {
  if (!Array.isArray(content)) return escape(String(content));
  return content.map(([name, value]) => `<${name}>${inner(value)}</${name}>`).join('');
}

function escape(text: string): string {
  return text.replaceAll(/[&<>"'\r]/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** The texts of all elements called `name`, in order, wherever they stand. */
export function texts(xml: string, name: string): string[] {
  const found = xml.matchAll(new RegExp(`<${name}(?:\\s[^>]*)?>([^<]*)</${name}>`, 'g'));
  return [...found].map((match) => unescape(match[1]!));
}

const NAMED: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescape(text: string): string {
  return text.replaceAll(
    /&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi,
    (all, hex?: string, dec?: string, name?: string) => {
      if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16));
      if (dec !== undefined) return String.fromCodePoint(Number(dec));
      return NAMED[name ?? ''] ?? all;
    },
  );
}
