import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pageBehind } from './web-page.ts';

const CASES = [
  ['127.0.0.1', { host: 'attacker.example' }, 'name', 'a rebound name'],
  ['::ffff:127.0.0.1', { host: 'attacker.example' }, 'name', 'IPv4 on a socket of IPv6'],
  ['::1', { host: 'attacker.example' }, 'name', 'IPv6'],
  ['127.0.0.1', { host: 'localhost:80', origin: 'null' }, 'origin', 'a page without an origin'],
  ['127.0.0.1', { host: '127.0.0.1:80' }, undefined, 'by the address'],
  ['::1', { host: '[::1]' }, undefined, 'by the address'],
  ['127.0.0.1', { host: '[localhost.attacker]' }, 'name', 'brackets make no address'],
  ['127.0.0.1', { host: 'a@127.0.0.1' }, 'name', 'not a host'],
  ['127.0.0.1', {}, undefined, 'HTTP/1.0, which no browser speaks'],
  ['10.0.0.5', { host: 'gateway.example:8788' }, undefined, 'a scraper of another machine'],
  ['10.0.0.5', { host: 'gateway', origin: 'https://a.example' }, undefined, 'another machine'],
  [undefined, { host: 'gateway' }, undefined, 'a unix socket'],
] as const;

for (const [localAddress, headers, page, why] of CASES)
  test(`at ${localAddress}, ${JSON.stringify(headers)} is ${page ?? 'no page'}: ${why}`, () => {
    const rawHeaders = Object.entries(headers).flat();
    assert.equal(pageBehind({ url: '/', headers, rawHeaders, socket: { localAddress } }), page);
  });
