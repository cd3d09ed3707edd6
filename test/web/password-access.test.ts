/** Passwords cannot be guessed by trying, and whoever tries keeps nobody else out. */

import { describe, expect, test } from 'vitest';
import { PasswordAccess } from '../../src/web/dashboard/password-access.ts';
import { peerOf, setPeer } from '../../src/web/peer-address.ts';

const RIGHT = 'frodo:mellon';

function gate(): {
  pass: (ms: number) => void;
  ask: (password: string, peer?: string, cookie?: string) => number;
} & {
  cookieOf: (peer: string) => string;
} {
  let nowMs = 0;
  const access = new PasswordAccess({ username: 'frodo', password: 'mellon' }, () => nowMs);
  const request = (password: string, peer: string, cookie: string): Request => {
    const authorization = `Basic ${Buffer.from(password).toString('base64')}`;
    // Whatever the sender says of itself changes nothing.
    const headers = { authorization, cookie, 'x-forwarded-for': String(Math.random()) };
    const made = new Request('http://x/', { headers });
    setPeer(made, peer);
    return made;
  };
  return {
    pass: (ms) => (nowMs += ms),
    ask(password, peer = '192.0.2.1', cookie = '') {
      const granted = access.of(request(password, peer, cookie));
      return granted instanceof Response ? granted.status : 200;
    },
    cookieOf(peer) {
      const granted = access.of(request(RIGHT, peer, ''));
      return granted instanceof Response ? '' : (granted.cookie?.split(';')[0] ?? '');
    },
  };
}

describe('wrong passwords', () => {
  test('are not looked at any more after ten, then one each two seconds', () => {
    const { ask, pass } = gate();
    const seen = Array.from({ length: 50 }, (_, i) => ask(`frodo:${i}`));
    expect(seen).toEqual([...Array<number>(10).fill(401), ...Array<number>(40).fill(429)]);
    // Also a right guess tells nothing then.
    expect(ask(RIGHT)).toBe(429);
    pass(2000);
    expect([ask('frodo:x'), ask('frodo:y')]).toEqual([401, 429]);
    pass(2000);
    expect(ask(RIGHT)).toBe(200);
    pass(60_000);
    expect(Array.from({ length: 11 }, () => ask('frodo:z')).filter((status) => status === 401)).toHaveLength(
      10,
    );
  });

  test('keep out neither other addresses nor who has logged in before', () => {
    const { ask, cookieOf } = gate();
    const cookie = cookieOf('192.0.2.1');
    for (let i = 0; i < 50; i++) ask(`frodo:${i}`);
    expect([ask(RIGHT), ask(RIGHT, '192.0.2.2'), ask(RIGHT, '192.0.2.1', cookie)]).toEqual([429, 200, 200]);
    expect(ask(RIGHT, '192.0.2.1', 'litestream_known=x')).toBe(429);
  });

  test('right ones cost nothing', () => {
    const { ask } = gate();
    expect(Array.from({ length: 100 }, () => ask(RIGHT)).every((status) => status === 200)).toBe(true);
  });

  test('of one IPv6 network are of one guesser, and many addresses take little memory', () => {
    const { ask } = gate();
    for (let i = 0; i < 10; i++) ask('frodo:x', `2001:db8:1:2::${i}`);
    expect([ask(RIGHT, '2001:db8:1:2:ffff::1'), ask(RIGHT, '2001:db8:1:3::1')]).toEqual([429, 200]);
    // The guesser of the first line is forgotten for a thousand others.
    for (let i = 0; i < 1000; i++) ask('frodo:x', `10.0.${i >> 8}.${i & 255}`);
    expect(ask(RIGHT, '2001:db8:1:2::1')).toBe(200);
  });
});

test.each([
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['192.0.2.7', '192.0.2.7'],
  ['::1', '0:0:0:0'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
  ['2001:db8::1', '2001:db8:0:0'],
])('the peer %s is %s', (address, peer) => {
  const request = new Request('http://x/');
  setPeer(request, address);
  expect(peerOf(request)).toBe(peer);
});
