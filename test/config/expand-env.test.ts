import fc from 'fast-check';
import { expect, it } from 'vitest';
import { expandEnv, sourceOffset } from '../../src/config/expand-env.ts';

it.each([
  ['/p$/q$ r/$-x/${}y/${A B}z/$é/end$', '/p$/q$ r/x/y/z/$é/end$'],
  ['/a$$b/$1', '/ab/'],
  ['$A-$B_1/${A}B', 'x-y/xB'],
  ['${NOPE:-dflt}|${A:-dflt}', '|'],
  ['${A', 'A'],
  ['a ${ b } c', 'a  c'],
  ['${$}${1}${?}', ''],
  ['$A$A', 'xx'],
  ['${A\n}', ''],
  ['$12', '2'],
])('expands %j to %j', (text, expected) => {
  expect(expandEnv(text, { A: 'x', B_1: 'y' }).text).toBe(expected);
});

it('knows only variables, not what every object has', () => {
  const { text, references } = expandEnv('${constructor}|$__proto__|$toString|${hasOwnProperty}', { A: 'x' });
  expect(text).toBe('|||');
  expect(references.every(({ unset }) => unset)).toBe(true);
});

it('records what is not set', () => {
  const { references } = expandEnv('$SET ${UNSET} $$ ${} $EMPTY', { SET: 'x', EMPTY: '' });
  expect(references.filter(({ unset }) => unset).map(({ name }) => name)).toEqual(['UNSET', '$']);
});

it('finds the way back for every character', () => {
  const literal = fc.stringMatching(/^[a-z :\n]{0,8}$/);
  const part = fc.record({ before: literal, value: literal });
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), literal, (parts, tail) => {
      const env = Object.fromEntries(parts.map(({ value }, index) => [`V${index}`, value]));
      const source = parts.map(({ before }, index) => `${before}\${V${index}}`).join('') + tail;
      const expansion = expandEnv(source, env);
      expect(expansion.text).toBe(parts.map(({ before, value }) => before + value).join('') + tail);
      for (let offset = 0; offset < expansion.text.length; offset++) {
        const reference = expansion.references.find(({ start, end }) => start <= offset && offset < end);
        const back = sourceOffset(expansion, offset);
        if (reference === undefined) expect(source[back]).toBe(expansion.text[offset]);
        else expect(back).toBe(reference.sourceStart);
      }
    }),
  );
});
