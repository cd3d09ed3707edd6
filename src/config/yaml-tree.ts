/**
 * Reads YAML into the few shapes that a config is made of, each with its offset in the text. Aliases and merge keys are
 * followed as v0.3.13's YAML library does; scalars stay text, since what they mean depends on the key.
 */

import type * as Yaml from 'yaml';
import type { Alias, Document, ErrorCode, Node, Pair, YAMLError } from 'yaml';

export interface ScalarNode {
  readonly kind: 'scalar';
  readonly start: number;
  readonly end: number;
  readonly text: string;
  /** Not quoted and no block: may be a number, a boolean or null. */
  readonly plain: boolean;
}

export interface SequenceNode {
  readonly kind: 'seq';
  readonly start: number;
  readonly items: ConfigNode[];
}

export interface MapEntry {
  readonly key: string;
  readonly start: number;
  readonly end: number;
  readonly value: ConfigNode;
  /** Came in by a merge key, so that it may be set again. */
  readonly merged: boolean;
}

export interface MapNode {
  readonly kind: 'map';
  readonly start: number;
  /** In the order of the file; of entries with one key the last counts. */
  readonly entries: MapEntry[];
}

export type ConfigNode = ScalarNode | SequenceNode | MapNode;

/** Text that is not YAML: `offset` is where it stops to be. The message never holds anything of the text. */
export class YamlSyntaxError extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.name = 'YamlSyntaxError';
    this.offset = offset;
  }
}

/** The first document of `text`; undefined when there is none. Throws YamlSyntaxError. */
export async function parseYaml(text: string): Promise<ConfigNode | undefined> {
  // Loaded late: commands that read no config start without it.
  const yaml = await import('yaml');
  const document = yaml.parseDocument(text, {
    schema: 'failsafe',
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'silent',
  });
  const error = document.errors[0];
  if (error !== undefined) throw syntaxError(text, error);
  const converted = new Map<Node, ConfigNode>();
  const targets = targetsOf(document, yaml);
  let steps = 0;

  function convert(node: Node | null, at: number): ConfigNode {
    if (yaml.isAlias(node)) {
      const target = targets.get(node);
      // The name is not repeated: it may be a password that should have been quoted.
      if (target === undefined) throw new YamlSyntaxError('unknown anchor referenced', node.range?.[0] ?? at);
      return convert(target, at);
    }
    if (node === null) return { kind: 'scalar', start: at, end: at, text: '', plain: true };
    const known = converted.get(node);
    if (known !== undefined) return known;
    const start = node.range?.[0] ?? at;
    if (yaml.isSeq(node)) {
      const items: ConfigNode[] = [];
      const result: ConfigNode = { kind: 'seq', start, items };
      converted.set(node, result);
      for (const item of node.items) items.push(convert(item as Node | null, start));
      return result;
    }
    if (yaml.isMap(node)) {
      const entries: MapEntry[] = [];
      const result: ConfigNode = { kind: 'map', start, entries };
      converted.set(node, result);
      for (const pair of node.items) addPair(entries, pair as Pair<Node | null, Node | null>, start);
      return result;
    }
    const plain = yaml.isScalar(node) && isPlain(node.type, node.tag);
    const value = yaml.isScalar(node) ? node.value : '';
    const text = typeof value === 'string' ? value : '';
    return { kind: 'scalar', start, end: node.range?.[1] ?? start, text, plain };
  }

  function addPair(entries: MapEntry[], pair: Pair<Node | null, Node | null>, at: number): void {
    const key = convert(pair.key, at);
    if (key.kind !== 'scalar') return;
    const value = convert(pair.value, key.end);
    if (key.text !== '<<' || !key.plain) {
      entries.push({ key: key.text, start: key.start, end: key.end, value, merged: false });
      return;
    }
    // Of several merged maps the first counts, so it comes last.
    const sources = value.kind === 'seq' ? value.items.toReversed() : [value];
    for (const source of sources) {
      if (source.kind !== 'map') {
        throw new YamlSyntaxError('map merge requires map or sequence of maps as the value', key.start);
      }
      for (const entry of source.entries.slice()) {
        if (++steps > MAX_MERGED)
          throw new YamlSyntaxError('document contains excessive aliasing', key.start);
        entries.push({ ...entry, merged: true });
      }
    }
  }

  if (document.contents === null) return undefined;
  const root = convert(document.contents, 0);
  if (targets.size > 0) checkSize(root, text);
  return root;
}

/** The node that each alias stands for: the last one before it with that anchor. One walk, however many aliases there are. */
function targetsOf(document: Document, { visit, isAlias }: typeof Yaml): Map<Alias, Node | undefined> {
  const anchors = new Map<string, Node>();
  const targets = new Map<Alias, Node | undefined>();
  visit(document, {
    Node(_key, node) {
      if (isAlias(node)) targets.set(node, anchors.get(node.source));
      else if (node.anchor !== undefined) anchors.set(node.anchor, node);
    },
  });
  return targets;
}

/** What stands in the text itself is as large as the text at most. */
function checkSize(root: ConfigNode, text: string): void {
  if (sizeOf(root, new Map()) > text.length + MAX_ALIASED)
    throw new YamlSyntaxError('document contains excessive aliasing', 0);
}

/** The number of nodes that whoever follows every alias comes by; each node is looked at once. */
function sizeOf(node: ConfigNode, known: Map<ConfigNode, number>): number {
  const before = known.get(node);
  if (before !== undefined) return before;
  // Of a node that holds itself.
  known.set(node, 1);
  const children =
    node.kind === 'scalar' ? [] : node.kind === 'seq' ? node.items : node.entries.map(({ value }) => value);
  let size = 1;
  for (const child of children) size += sizeOf(child, known);
  known.set(node, size);
  return size;
}

/** Nodes that aliases may stand for before the file is taken for an attack. */
const MAX_ALIASED = 200_000;

/** Entries that merge keys may copy before the file is taken for an attack. */
const MAX_MERGED = 100_000;

function isPlain(type: string | undefined, tag: string | undefined): boolean {
  if (tag === undefined || tag === '!') return type === 'PLAIN' && tag !== '!';
  return tag !== 'tag:yaml.org,2002:str' && /^tag:yaml.org,2002:(?:int|float|bool|null)$/.test(tag);
}

/** The parser's codes in the words of v0.3.13's YAML library, where it has words for them. */
const PHRASES: Partial<Record<ErrorCode, string>> = {
  BAD_ALIAS: 'unknown anchor referenced',
  BAD_DQ_ESCAPE: 'found unknown escape character',
  BAD_DIRECTIVE: 'found unknown directive name',
  BAD_INDENT: 'did not find expected key',
  BAD_SCALAR_START: 'found character that cannot start any token',
  BLOCK_AS_IMPLICIT_KEY: 'mapping values are not allowed in this context',
  BLOCK_IN_FLOW: 'block collections are not allowed in flow context',
  KEY_OVER_1024_CHARS: "could not find expected ':'",
  MISSING_CHAR: "did not find expected key or ':'",
  MULTILINE_IMPLICIT_KEY: "could not find expected ':'",
  MULTIPLE_ANCHORS: 'found more than one anchor on a value',
  MULTIPLE_TAGS: 'found more than one tag on a value',
  TAB_AS_INDENT: 'found character that cannot start any token',
  UNEXPECTED_TOKEN: 'did not find expected key',
};

function syntaxError(text: string, error: YAMLError): YamlSyntaxError {
  const offset = error.pos[0];
  const flow = /^Flow (sequence|map) /.exec(error.message);
  if (flow !== null) {
    // The parser points behind the trouble, often to the end of the file.
    const before = text.slice(0, offset).trimEnd();
    const close = flow[1] === 'map' ? '}' : ']';
    const open = /[[{,]$/.test(before);
    return new YamlSyntaxError(
      open ? 'did not find expected node content' : `did not find expected ',' or '${close}'`,
      Math.max(before.length - 1, 0),
    );
  }
  if (error.message.startsWith('Missing closing ')) {
    return new YamlSyntaxError('found unexpected end of stream', Math.max(text.trimEnd().length - 1, 0));
  }
  return new YamlSyntaxError(PHRASES[error.code] ?? 'not valid YAML', offset);
}
