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

const CALL = { id: 7, method: 'tools/call', params: { name: 'höhe' } };
const READ = { id: 7, method: 'resources/read', params: { uri: 'test://a' } };
const AGREE = [
  [CALL, {}, true, 'what is missing is for the server to say'],
  [CALL, { 'mcp-method': 'tools/call' }, true, 'the same method'],
  [CALL, { 'mcp-method': 'tools/list' }, false, 'another method'],
  [CALL, { 'mcp-method': 'Tools/Call' }, false, 'values have a case'],
  [CALL, { 'mcp-name': '=?base64?aMO2aGU=?=' }, true, 'the same name, encoded'],
  [CALL, { 'mcp-name': 'hoehe' }, false, 'another name'],
  [CALL, { 'mcp-name': '=?base64?aG9laGU=?=' }, false, 'another name, encoded'],
  [READ, { 'mcp-name': 'test://a' }, true, 'a resource is named by its URI'],
  [READ, { 'mcp-name': 'test://b' }, false, 'another resource'],
] as const;

for (const [message, headers, agree, why] of AGREE)
  test(`${JSON.stringify(headers)} ${agree ? 'agrees' : 'disagrees'} with ${message.method}: ${why}`, () => {
    const messages = readMessages(Buffer.from(JSON.stringify(message)));
    const hold = (version: string) => () =>
      assertHeadersAgree({ 'mcp-protocol-version': version, ...headers }, messages);
    if (agree) assert.doesNotThrow(hold('2026-07-28'));
    else assert.throws(hold('2026-07-28'), { code: 'INVALID_REQUEST', rpcCode: -32_020, rpcId: 7 });
    assert.doesNotThrow(hold('2025-11-25'), 'these headers mean nothing in the legacy era');
  });
