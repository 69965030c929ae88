import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertHeadersAgree, eraOf } from './era.ts';
import { readMessages } from './message.ts';

const ERAS = [
  [undefined, 'legacy'],
  ['2024-11-05', 'legacy'],
  ['2025-11-25', 'legacy'],
  ['2026-07-28', 'modern'],
  ['2027-01-01', 'modern'],
  ['DRAFT-2026', 'legacy'],
  ['9', 'legacy'],
] as const;

for (const [version, era] of ERAS)
  test(`${version} is ${era}`, () => {
    assert.equal(eraOf({ 'mcp-protocol-version': version }), era);
  });

test('two version headers are no version: who reads one of them reads another era', () => {
  for (const twice of [
    '2026-07-28, 2025-11-25',
    '2025-11-25, 2026-07-28',
    '2026-07-28, 2026-07-28',
  ])
    assert.throws(() => eraOf({ 'mcp-protocol-version': twice }), { rpcCode: -32_020 });
});

const of = (version: string) => ({ 'io.modelcontextprotocol/protocolVersion': version });
const CALL = { id: 7, method: 'tools/call', params: { name: 'höhe' } };
const EVIL = { id: 7, method: 'tools/call', params: { name: 'evil', uri: 'good', taskId: 'good' } };
const READ = { id: 7, method: 'resources/read', params: { uri: 'test://a', name: 'test://b' } };
const TASK = { id: 7, method: 'tasks/get', params: { taskId: 't' } };
const LATER = { id: 7, method: 'later/thing', params: { uri: 'test://a' } };
const LIST = { id: 7, method: 'tools/list', params: {} };
const READY = { method: 'notifications/ready' };
const ANSWER = { id: 7, result: {} };
const named = (method: string, name: string) => ({ 'mcp-method': method, 'mcp-name': name });
const call = (name: string) => named('tools/call', name);

/** Message, headers, whether they agree in the legacy era, and in the modern one. */
const AGREE = [
  [CALL, {}, true, false, 'only the modern era has these headers'],
  [CALL, { 'mcp-name': '=?base64?aMO2aGU=?=' }, true, false, 'the method must be named'],
  [CALL, { 'mcp-method': 'tools/call' }, true, false, 'what is called must be named'],
  [CALL, call('=?base64?aMO2aGU=?='), true, true, 'the same, encoded'],
  [CALL, named('tools/list', '=?base64?aMO2aGU=?='), false, false, 'another method'],
  [CALL, named('Tools/Call', '=?base64?aMO2aGU=?='), false, false, 'values have a case'],
  [CALL, call('hoehe'), false, false, 'another name'],
  [CALL, call('höhe'), false, false, 'headers are ASCII: others read other letters'],
  [CALL, call('=?base64?aG9laGU=?='), false, false, 'another name, encoded'],
  [CALL, call('=?base64?aMO2!aGU=?='), false, false, 'what only some can decode'],
  [EVIL, call('evil'), true, true, 'the name of what is called'],
  [EVIL, call('good'), false, false, 'another parameter is not its name'],
  [READ, named('resources/read', 'test://a'), true, true, 'a resource is named by its URI'],
  [READ, named('resources/read', 'test://b'), false, false, 'another resource'],
  [TASK, named('tasks/get', 't'), true, true, 'a task is named by its id'],
  [TASK, named('tasks/get', 'u'), false, false, 'another task'],
  [LATER, named('later/thing', 'test://a'), true, true, 'a method that is not known here'],
  [LATER, named('later/thing', 'test://b'), false, false, 'names something that it does not'],
  [LIST, { 'mcp-method': 'tools/list' }, true, true, 'what calls nothing has no name'],
  [LIST, named('tools/list', 'x'), false, false, 'and cannot have one'],
  [READY, {}, true, true, 'notifications need not be routed'],
  [READY, { 'mcp-method': 'tools/call' }, false, false, 'but not led astray'],
  [ANSWER, {}, true, true, 'an answer has no method'],
  [ANSWER, { 'mcp-method': 'tools/call' }, false, false, 'and cannot have one'],
] as const;

const held = (message: unknown, headers: Readonly<Record<string, string>>) => () =>
  assertHeadersAgree(headers, readMessages(Buffer.from(JSON.stringify(message))));

for (const [message, headers, ...eras] of AGREE)
  for (const [index, version] of ['2025-11-25', '2026-07-28'].entries())
    test(`${version}, ${JSON.stringify(headers)} ${eras[index] ? 'agrees' : 'disagrees'} with ${JSON.stringify(message)}: ${eras[2]}`, () => {
      const hold = held(message, { ...headers, 'mcp-protocol-version': version });
      if (eras[index]) assert.doesNotThrow(hold);
      else
        assert.throws(hold, {
          code: 'INVALID_REQUEST',
          rpcCode: -32_020,
          rpcId: message === READY ? null : 7,
        });
    });

const VERSIONS = [
  ['2026-07-28', '2026-07-28', true, 'the same'],
  ['2026-07-28', '2025-11-25', false, 'modern for who routes, legacy for who reads'],
  ['2025-11-25', '2026-07-28', false, 'the reverse'],
  [undefined, '2026-07-28', false, 'legacy for who routes'],
  [undefined, '2025-11-25', true, 'legacy for both'],
  ['2026-07-28', undefined, true, 'that the body names none is for the server to say'],
] as const;

for (const [header, body, agree, why] of VERSIONS)
  test(`a header of ${header} ${agree ? 'agrees' : 'disagrees'} with a body of ${body}: ${why}`, () => {
    const hold = held(
      { id: 7, method: 'ping', params: body === undefined ? {} : { _meta: of(body) } },
      { 'mcp-method': 'ping', ...(header !== undefined && { 'mcp-protocol-version': header }) },
    );
    if (agree) assert.doesNotThrow(hold);
    else assert.throws(hold, { rpcCode: -32_020, rpcId: 7 });
  });

test('a batch is refused in the modern era, and all of it must be what the headers say in the other', () => {
  const modern = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/list' };
  const inside = { ...LIST, params: { _meta: of('2026-07-28') } };
  assert.throws(held([LIST, LIST], modern), { rpcCode: -32_600 });
  assert.throws(held([LIST], modern), { rpcCode: -32_600 });
  assert.throws(held([LIST, inside], {}), { rpcCode: -32_600 });
  assert.throws(held([LIST, CALL], { 'mcp-method': 'tools/list' }), { rpcCode: -32_020 });
  assert.doesNotThrow(held([LIST, CALL], {}));
});
