/** What an unquoted scalar means in YAML 1.1 as v0.3.13 reads it: `yes` is a boolean, `0x10` and `1_000` are numbers. */

import type { ScalarNode } from './yaml-tree.ts';

export type ScalarValue =
  | { readonly tag: '!!null' }
  | { readonly tag: '!!bool'; readonly value: boolean }
  | { readonly tag: '!!int' | '!!float'; readonly value: number }
  | { readonly tag: '!!str'; readonly value: string };

const NULL = /^(?:~|null|Null|NULL|)$/;
const TRUE = /^(?:y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON)$/;
const FALSE = /^(?:n|N|no|No|NO|false|False|FALSE|off|Off|OFF)$/;
const INTEGER = /^([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)$/;
const FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/;
const SPECIAL_FLOATS: ReadonlyMap<string, number> = new Map([
  ...['.nan', '.NaN', '.NAN'].map((text) => [text, NaN] as const),
  ...['.inf', '.Inf', '.INF', '+.inf', '+.Inf', '+.INF'].map((text) => [text, Infinity] as const),
  ...['-.inf', '-.Inf', '-.INF'].map((text) => [text, -Infinity] as const),
]);

/** Integers beyond 64 bits become floats, as there. */
export function resolveScalar(node: ScalarNode): ScalarValue {
  const { text } = node;
  if (!node.plain) return { tag: '!!str', value: text };
  if (NULL.test(text)) return { tag: '!!null' };
  if (TRUE.test(text) || FALSE.test(text)) return { tag: '!!bool', value: TRUE.test(text) };
  const special = SPECIAL_FLOATS.get(text);
  if (special !== undefined) return { tag: '!!float', value: special };
  const digits = text.replaceAll('_', '');
  const integer = INTEGER.exec(digits);
  if (integer !== null) {
    const value = Number(octal(integer[2] ?? '')) * (integer[1] === '-' ? -1 : 1);
    return { tag: Math.abs(value) < 2 ** 64 ? '!!int' : '!!float', value };
  }
  return FLOAT.test(digits) ? { tag: '!!float', value: Number(digits) } : { tag: '!!str', value: text };
}

/** Go's `012` and `0o12`, both octal, in the one form that JavaScript reads. */
function octal(digits: string): string {
  return /^0[0-7]/.test(digits) ? `0o${digits.slice(1)}` : digits;
}
