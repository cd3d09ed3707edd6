/** Changes what is in the document into what it should be, touching nothing that is right already: focus, selection and scroll stay. */

/**
 * `data-keep`: the browser's own, left alone once it is there. `data-own`: put there by the script, stays. An element with
 * `data-cursor` is being pointed at: what it says of that stays, too.
 */
export function morph(target: Element, markup: string): void {
  const template = document.createElement('template');
  template.innerHTML = markup;
  morphChildren(target, template.content);
}

function morphChildren(target: Element, wanted: ParentNode): void {
  const keyed = new Map<string, Element>();
  for (const child of target.children) {
    const key = keyOf(child);
    if (key !== undefined) keyed.set(key, child);
  }
  let at = skipOwn(target.firstChild);
  for (const next of [...wanted.childNodes]) {
    const key = next instanceof Element ? keyOf(next) : undefined;
    const there: ChildNode | undefined = key === undefined ? undefined : keyed.get(key);
    if (there && there !== at) target.insertBefore(there, at);
    const candidate: ChildNode | null = there ?? at;
    if (candidate && isSame(candidate, next)) {
      at = skipOwn(candidate.nextSibling);
      morphNode(candidate, next);
    } else {
      target.insertBefore(next, at);
    }
  }
  while (at) {
    const next = skipOwn(at.nextSibling);
    at.remove();
    at = next;
  }
}

function skipOwn(node: ChildNode | null): ChildNode | null {
  let at = node;
  while (at instanceof Element && at.hasAttribute('data-own')) at = at.nextSibling;
  return at;
}

function keyOf(element: Element): string | undefined {
  return element.getAttribute('data-key') ?? (element.id === '' ? undefined : element.id);
}

function isSame(node: Node, next: Node): boolean {
  if (node.nodeName !== next.nodeName) return false;
  return !(node instanceof Element) || !(next instanceof Element) || keyOf(node) === keyOf(next);
}

function morphNode(node: Node, next: Node): void {
  if (!(node instanceof Element) || !(next instanceof Element)) {
    if (node.nodeValue !== next.nodeValue) node.nodeValue = next.nodeValue;
    return;
  }
  if (node.hasAttribute('data-keep')) return;
  for (const { name, value } of next.attributes) {
    const pointed = POINTED.has(name) && node.hasAttribute('data-cursor');
    if (!pointed && node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  for (const { name } of [...node.attributes]) {
    if (!next.hasAttribute(name) && !OWN.has(name)) node.removeAttribute(name);
  }
  morphChildren(node, next);
}

const POINTED: ReadonlySet<string> = new Set(['aria-valuenow', 'aria-valuetext']);

/** What the script sets on elements by itself. */
const OWN: ReadonlySet<string> = new Set(['style', 'data-cursor']);
