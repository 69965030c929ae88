import assert from 'node:assert/strict';
import { test } from 'node:test';
import { acceptOf, acceptsHandshake, asksForWebSocket, handshakeKey } from './websocket.ts';

/** The example of RFC 6455, 1.3. */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

test('a key is answered as RFC 6455 says', () => assert.equal(acceptOf(KEY), ACCEPT));

const HANDSHAKES: readonly (readonly [what: string, head: string[], key: string | undefined])[] = [
  ['a complete one', ['Sec-WebSocket-Key', KEY, 'Sec-WebSocket-Version', '13'], KEY],
  ['another version', ['Sec-WebSocket-Key', KEY, 'Sec-WebSocket-Version', '8'], undefined],
  ['no version', ['Sec-WebSocket-Key', KEY], undefined],
  ['no key', ['Sec-WebSocket-Version', '13'], undefined],
  ['a short key', ['Sec-WebSocket-Key', 'eA==', 'Sec-WebSocket-Version', '13'], undefined],
  [
    'two keys',
    ['Sec-WebSocket-Key', KEY, 'sec-websocket-key', KEY, 'Sec-WebSocket-Version', '13'],
    undefined,
  ],
];
for (const [what, head, key] of HANDSHAKES)
  test(`${what}: ${key === undefined ? 'no handshake' : 'a handshake'}`, () =>
    assert.equal(handshakeKey(head), key));

const YES = ['Upgrade', 'websocket', 'Connection', 'keep-alive, Upgrade'];
const ANSWERS: readonly (readonly [what: string, head: string[], accepted: boolean])[] = [
  ['the answer to the key', [...YES, 'Sec-WebSocket-Accept', ACCEPT], true],
  ['no answer to it', YES, false],
  ['the answer to another', [...YES, 'Sec-WebSocket-Accept', acceptOf('other')], false],
  ['two answers', [...YES, 'Sec-WebSocket-Accept', ACCEPT, 'Sec-WebSocket-Accept', 'x'], false],
  [
    'another protocol',
    ['Upgrade', 'h2c', 'Connection', 'Upgrade', 'Sec-WebSocket-Accept', ACCEPT],
    false,
  ],
  ['no upgrade', ['Upgrade', 'websocket', 'Sec-WebSocket-Accept', ACCEPT], false],
];
for (const [what, head, accepted] of ANSWERS)
  test(`a 101 with ${what} is ${accepted ? 'taken' : 'not taken'}`, () =>
    assert.equal(acceptsHandshake(head, KEY), accepted));

test('a wish is one whatever its case, and one among several', () => {
  assert.ok(asksForWebSocket(['upgrade', ' WebSocket ']));
  assert.ok(asksForWebSocket(['Upgrade', 'h2c', 'Upgrade', 'websocket']));
  assert.ok(!asksForWebSocket(['Upgrade', 'h2c']));
});
