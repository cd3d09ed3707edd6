import { expect, it } from 'vitest';
import { resolveScalar } from '../../src/config/scalar.ts';

const scalar = (text: string, plain = true) =>
  resolveScalar({ kind: 'scalar', start: 0, end: text.length, text, plain });

it.each([
  ['12', 12],
  ['-1_000', -1000],
  ['+7', 7],
  ['012', 10],
  ['0o12', 10],
  ['-012', -10],
  ['0x1F', 31],
  ['0b101', 5],
  ['0', 0],
])('reads %s as the integer %d', (text, value) => {
  expect(scalar(text)).toEqual({ tag: '!!int', value });
});

it.each([
  ['1.5', 1.5],
  ['1e3', 1000],
  ['.5', 0.5],
  ['08', 8],
  ['-.inf', -Infinity],
  ['99999999999999999999', 1e20],
])('reads %s as the float %d', (text, value) => {
  expect(scalar(text)).toEqual({ tag: '!!float', value });
});

it.each(['', '~', 'null', 'NULL'])('reads %j as nothing', (text) => {
  expect(scalar(text)).toEqual({ tag: '!!null' });
});

it.each(['y', 'Yes', 'ON', 'true'])('reads %s as true', (text) => {
  expect(scalar(text)).toEqual({ tag: '!!bool', value: true });
});

it.each(['n', 'No', 'OFF', 'false'])('reads %s as false', (text) => {
  expect(scalar(text)).toEqual({ tag: '!!bool', value: false });
});

it.each(['yES', '1s', '0x', '1.2.3', '-', 'nULL'])('reads %s as text', (text) => {
  expect(scalar(text)).toEqual({ tag: '!!str', value: text });
});

it('reads what is quoted as text', () => {
  expect(scalar('12', false)).toEqual({ tag: '!!str', value: '12' });
});
