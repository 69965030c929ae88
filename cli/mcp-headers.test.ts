import assert from 'node:assert/strict';
import { test } from 'node:test';
import { headerValue, standardHeaders } from './mcp-headers.ts';

const meta = { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } };
const version = { 'mcp-protocol-version': '2026-07-28' };

const CASES = [
  ['the session era has none', { method: 'tools/call', params: { name: 'x' } }, {}],
  ['an answer has none', { id: 1, result: {}, params: meta }, {}],
  ['no parameters', { method: 'tools/list' }, {}],
  [
    'a version that is no text',
    { method: 'x', params: { _meta: { 'io.modelcontextprotocol/protocolVersion': 1 } } },
    {},
  ],
  [
    'a method without a name',
    { method: 'tools/list', params: meta },
    { ...version, 'mcp-method': 'tools/list' },
  ],
  [
    'a tool',
    { method: 'tools/call', params: { ...meta, name: 'execute_python' } },
    { ...version, 'mcp-method': 'tools/call', 'mcp-name': 'execute_python' },
  ],
  [
    'a resource',
    { method: 'resources/read', params: { ...meta, uri: 'file:///höhe' } },
    {
      ...version,
      'mcp-method': 'resources/read',
      'mcp-name': `=?base64?${Buffer.from('file:///höhe').toString('base64')}?=`,
    },
  ],
  [
    'a name that is no text is left to the server',
    { method: 'tools/call', params: { ...meta, name: 7 } },
    { ...version, 'mcp-method': 'tools/call' },
  ],
] as const;

for (const [what, message, headers] of CASES)
  test(`standard headers: ${what}`, () => {
    assert.deepEqual(standardHeaders(message), headers);
  });

const VALUES = [
  ['plain text, with spaces', true],
  [' leading', false],
  ['trailing ', false],
  ['', false],
  ['höhe', false],
  ['a\r\nx-injected: 1', false],
  ['=?base64?aA==?=', false],
] as const;

for (const [value, plain] of VALUES)
  test(`${JSON.stringify(value)} is sent ${plain ? 'as it is' : 'in base64'}`, () => {
    const sent = headerValue(value);
    if (plain) assert.equal(sent, value);
    else {
      const [, encoded = ''] = /^=\?base64\?([A-Za-z0-9+/=]*)\?=$/.exec(sent) ?? [];
      assert.equal(Buffer.from(encoded, 'base64').toString(), value);
      assert.notEqual(sent, value);
    }
  });
