import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NAMED_BY } from '#core/mcp-name';
import { standardHeaders } from './mcp-headers.ts';

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
    'a task',
    { method: 'tasks/cancel', params: { ...meta, taskId: 'one\ttwo' } },
    {
      ...version,
      'mcp-method': 'tasks/cancel',
      'mcp-name': `=?base64?${Buffer.from('one\ttwo').toString('base64')}?=`,
    },
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

for (const [method, parameter] of NAMED_BY)
  test(`what the gateway asks of ${method} is said: its ${parameter}`, () => {
    assert.deepEqual(standardHeaders({ method, params: { ...meta, [parameter]: 'x' } }), {
      ...version,
      'mcp-method': method,
      'mcp-name': 'x',
    });
  });
