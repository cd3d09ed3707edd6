/**
 * Applies the schema to a YAML tree: collects all wrong types at once, warns of what v0.3.13 ignores in silence, and
 * hands out typed values together with their places.
 */

import { assert } from '../base/errors.ts';
import { formatDuration, parseDuration } from '../base/duration.ts';
import { redactUrl } from '../base/redact-url.ts';
import { ConfigError, diagnosticAt, inFileOrder, type Diagnostic } from './diagnostic.ts';
import { isExpanded, sourceOffset, type Expansion } from './expand-env.ts';
import { resolveScalar } from './scalar.ts';
import type { KeySpec, SectionSpec } from './schema.ts';
import type { ConfigNode, MapNode, ScalarNode } from './yaml-tree.ts';

type Value = string | boolean | number | readonly string[] | Section | readonly (Section | undefined)[];

/** One map of the file, decoded. Asking for a key that the schema does not have is a bug of the caller's. */
export class Section {
  /** Offset of the map in the expanded text. */
  readonly start: number;
  readonly #spec: SectionSpec;
  readonly #values: ReadonlyMap<string, { readonly value: Value; readonly start: number }>;

  constructor(
    spec: SectionSpec,
    start: number,
    values: ReadonlyMap<string, { value: Value; start: number }>,
  ) {
    this.#spec = spec;
    this.start = start;
    this.#values = values;
  }

  /** Where a key's value stands; the map itself when the key is absent. */
  startOf(name: string): number {
    return this.#values.get(name)?.start ?? this.start;
  }

  /** The value or the schema's default. */
  string(name: string): string {
    return this.#get(name, (value) => typeof value === 'string') ?? this.#default(name);
  }

  /** undefined when the key is absent. */
  bool(name: string): boolean | undefined {
    return this.#get(name, (value) => typeof value === 'boolean');
  }

  /** The value or the schema's default. */
  int(name: string): number {
    return this.#get(name, (value) => typeof value === 'number') ?? Number(this.#default(name));
  }

  /** Milliseconds: the value or the schema's default. */
  durationMs(name: string): number {
    return this.#get(name, (value) => typeof value === 'number') ?? parseDuration(this.#default(name));
  }

  section(name: string): Section | undefined {
    return this.#get(name, (value) => value instanceof Section);
  }

  /** undefined stands for an item that is empty. */
  sections(name: string): readonly (Section | undefined)[] {
    return this.#get(name, (value): value is readonly (Section | undefined)[] => Array.isArray(value)) ?? [];
  }

  strings(name: string): readonly string[] {
    return this.#get(name, (value): value is readonly string[] => Array.isArray(value)) ?? [];
  }

  #get<T extends Value>(name: string, is: (value: Value) => value is T): T | undefined {
    const found = this.#values.get(name);
    if (found === undefined) return undefined;
    assert(is(found.value), `config key ${name} asked for with another kind than the schema's`);
    return found.value;
  }

  #default(name: string): string {
    const key = this.#spec.keys.find((spec) => spec.name === name);
    assert(key !== undefined, `config key ${name} is not in the schema`);
    return key.defaultText;
  }
}

/** What v0.3.13 calls the types of values in its messages. */
const GO_TYPES = {
  string: 'string',
  bool: 'bool',
  int: 'int',
  duration: 'time.Duration',
  strings: '[]string',
};

export class Decoder {
  readonly warnings: Diagnostic[] = [];
  readonly #path: string;
  readonly #source: string;
  readonly #expansion: Expansion;
  readonly #mismatches: Diagnostic[] = [];

  /** `source` is the file as the user wrote it, `expansion` what the YAML was read from. */
  constructor(path: string, source: string, expansion: Expansion) {
    this.#path = path;
    this.#source = source;
    this.#expansion = expansion;
  }

  /** A diagnostic for an offset of the expanded text. */
  at(message: string, offset: number): Diagnostic {
    return diagnosticAt(message, this.#path, this.#source, sourceOffset(this.#expansion, offset));
  }

  warn(message: string, offset: number): void {
    this.warnings.push(this.at(message, offset));
  }

  /** Throws ConfigError with every value of a wrong type. */
  decode(node: ConfigNode | undefined, spec: SectionSpec): Section {
    const section = node === undefined ? undefined : this.#section(node, spec);
    if (this.#mismatches.length > 0) {
      const mismatches = this.#mismatches.toSorted(inFileOrder);
      const lines = mismatches.map(({ line, message }) => `  line ${line}: ${message}`);
      throw new ConfigError(`yaml: unmarshal errors:\n${lines.join('\n')}`, mismatches);
    }
    return section ?? new Section(spec, 0, new Map());
  }

  #section(node: ConfigNode, spec: SectionSpec): Section | undefined {
    if (isNull(node)) return undefined;
    if (node.kind !== 'map') {
      this.#mismatch(node, spec.goType);
      return undefined;
    }
    this.#warnOfKeys(node, spec);
    const values = new Map<string, { value: Value; start: number }>();
    for (const key of spec.keys) {
      // All of them, not just the one that counts: a wrong type is an error anywhere.
      for (const entry of node.entries.filter(({ key: name }) => name === key.name)) {
        const value = this.#value(entry.value, key);
        if (value === undefined) values.delete(key.name);
        else values.set(key.name, { value, start: entry.value.start });
      }
    }
    return new Section(spec, node.start, values);
  }

  #warnOfKeys(node: MapNode, spec: SectionSpec): void {
    const seen = new Set<string>();
    for (const { key, start, end, merged } of node.entries) {
      // x- keys hold anchors by convention; what a merge brings in is judged where it stands.
      if (merged || key.startsWith('x-')) continue;
      const shown = isExpanded(this.#expansion, start, end)
        ? 'from a variable'
        : JSON.stringify(redactUrl(key));
      if (!spec.keys.some(({ name }) => name === key)) {
        const close = closestKey(key, spec);
        const hint = close === undefined ? '' : `: did you mean "${close}"?`;
        this.warn(`unknown key ${shown} is ignored${hint}`, start);
      } else if (seen.has(key)) {
        this.warn(`key ${shown} is set more than once: the last one counts`, start);
      }
      seen.add(key);
    }
  }

  #value(node: ConfigNode, key: KeySpec): Value | undefined {
    if (key.section !== undefined) {
      const { section } = key;
      if (key.kind === 'section') return this.#section(node, section);
      if (isNull(node)) return undefined;
      if (node.kind === 'seq') return node.items.map((item) => this.#section(item, section));
      this.#mismatch(node, `[]*${section.goType}`);
      return undefined;
    }
    if (key.kind === 'strings') return this.#strings(node);
    if (node.kind === 'scalar') return this.#scalar(node, key);
    this.#mismatch(node, this.#goType(key));
    return undefined;
  }

  #strings(node: ConfigNode): readonly string[] | undefined {
    if (isNull(node)) return undefined;
    if (node.kind !== 'seq') {
      this.#mismatch(node, GO_TYPES.strings);
      return undefined;
    }
    return node.items.flatMap((item) => {
      if (item.kind === 'scalar') return [item.text];
      this.#mismatch(item, GO_TYPES.string);
      return [];
    });
  }

  #scalar(node: ScalarNode, key: KeySpec): Value | undefined {
    const resolved = resolveScalar(node);
    // A string takes any scalar as it is written.
    if (key.kind === 'string') return resolved.tag === '!!null' ? '' : node.text;
    if (resolved.tag === '!!null') return undefined;
    if (key.kind === 'bool' && resolved.tag === '!!bool') return resolved.value;
    if (resolved.tag === '!!int' || resolved.tag === '!!float') {
      const whole = Math.trunc(resolved.value);
      if (Math.abs(whole) < 2 ** 63) {
        if (key.kind === 'int') return whole;
        if (key.kind === 'duration') return this.#bareDuration(node, key.name, whole);
      }
    }
    if (key.kind === 'duration' && resolved.tag === '!!str') {
      const ms = durationOrUndefined(resolved.value);
      if (ms !== undefined) return ms;
    }
    this.#mismatch(node, this.#goType(key), resolved.tag);
    return undefined;
  }

  #bareDuration(node: ScalarNode, name: string, nanoseconds: number): number {
    const ms = nanoseconds / 1e6;
    if (nanoseconds !== 0) {
      const shown = this.#shown(node);
      this.warn(
        `${name}: ${shown} without a unit counts nanoseconds and means ${formatDuration(ms)}: write "${shown}s" for seconds`,
        node.start,
      );
    }
    return ms;
  }

  #goType(key: KeySpec): string {
    assert(
      key.kind !== 'section' && key.kind !== 'sections',
      `config key ${key.name} has no keys of its own`,
    );
    return GO_TYPES[key.kind];
  }

  #mismatch(node: ConfigNode, goType: string, tag = '!!str'): void {
    const found = node.kind === 'scalar' ? `${tag} \`${abbreviate(this.#shown(node))}\`` : `!!${node.kind}`;
    this.#mismatches.push(this.at(`cannot unmarshal ${found} into ${goType}`, node.start));
  }

  /** A scalar as it stands in the file: the value of a variable is not for everybody who sees the message. */
  #shown(node: ScalarNode): string {
    if (!isExpanded(this.#expansion, node.start, node.end)) return node.text;
    const [start, end] = [node.start, node.end].map((offset) => sourceOffset(this.#expansion, offset));
    return this.#source.slice(start, end).trim();
  }
}

function isNull(node: ConfigNode): boolean {
  return node.kind === 'scalar' && resolveScalar(node).tag === '!!null';
}

function durationOrUndefined(text: string): number | undefined {
  try {
    return parseDuration(text);
  } catch {
    return undefined; // The caller says what is wrong, with the place.
  }
}

/** v0.3.13 shortens long values in this way. */
function abbreviate(text: string): string {
  return text.length > 10 ? `${text.slice(0, 7)}...` : text;
}

/** The key that was probably meant: at most a third of the letters differ. */
function closestKey(key: string, spec: SectionSpec): string | undefined {
  const wanted = key.toLowerCase().replaceAll('_', '-');
  const ranked = spec.keys
    .map(({ name }) => ({ name, distance: editDistance(wanted, name) }))
    .toSorted((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best !== undefined && best.distance <= Math.max(1, Math.floor(best.name.length / 3))
    ? best.name
    : undefined;
}

/** Insertions, deletions and replacements of one letter that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, letter] of Array.from(a).entries()) {
    const next = [i + 1];
    for (const [j, other] of Array.from(b).entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
