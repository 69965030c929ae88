import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hostOf, pathOf } from './request-target.ts';

const TARGETS = [
  ['/mcp', '/mcp', 'header.example', 'a path'],
  ['/mcp?x=http://other.example/', '/mcp', 'header.example', 'a query is not the path'],
  ['http://target.example:8788/mcp?x', '/mcp', 'target.example:8788', 'the target is above Host'],
  ['HTTPS://target.example/mcp', '/mcp', 'target.example', 'schemes have no case'],
  ['http://target.example', '/', 'target.example', 'no path'],
  ['http://target.example?/mcp', '/', 'target.example', 'no path, and a query'],
  ['http://localhost@evil.example/mcp', '/mcp', 'localhost@evil.example', 'no check lets that in'],
  ['http:///mcp', '/mcp', '', 'no host, whatever the header says'],
  ['//target.example/mcp', '//target.example/mcp', 'header.example', 'a path with two slashes'],
  ['ftp://target.example/mcp', 'ftp://target.example/mcp', 'header.example', 'another scheme'],
] as const;

for (const [url, path, host, why] of TARGETS)
  test(`${url} is for ${path} at ${host || 'nobody'}: ${why}`, () => {
    const headers = { host: 'header.example' };
    const request = { url, headers, rawHeaders: Object.entries(headers).flat() };
    assert.equal(pathOf(request), path);
    assert.equal(hostOf(request), host);
  });

test('two Host headers are none, in whatever case', () => {
  const request = (...rawHeaders: string[]) => ({ url: '/', headers: { host: 'a' }, rawHeaders });
  for (const second of ['a', 'b', ''])
    assert.throws(() => hostOf(request('Host', 'a', 'hOST', second)), { code: 'INVALID_REQUEST' });
  assert.equal(hostOf(request('Host', 'a', 'Most', 'b', 'x-host', 'c')), 'a', 'control');
});
