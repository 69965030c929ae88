import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatAddress,
  isLoopback,
  parseAddress,
  socketOptions,
  UNIX_PATH_MAX,
} from './address.ts';

const long = `/${'a'.repeat(UNIX_PATH_MAX - 1)}`;
const good: readonly (readonly [string, boolean, object])[] = [
  ['unix:/run/x.sock', true, { path: '/run/x.sock' }],
  [`unix:${long}`, true, { path: long }],
  ['127.0.0.1:8788', true, { host: '127.0.0.1', port: 8788 }],
  ['127.8.9.1:0', true, { host: '127.8.9.1', port: 0 }],
  ['localhost:80', true, { host: 'localhost', port: 80 }],
  ['[::1]:65535', true, { host: '::1', port: 65535 }],
  ['0.0.0.0:80', false, { host: '0.0.0.0', port: 80 }],
  ['[::]:80', false, { host: '::', port: 80 }],
  ['10.0.0.1:80', false, { host: '10.0.0.1', port: 80 }],
  ['127.0.0.1.example.com:80', false, { host: '127.0.0.1.example.com', port: 80 }],
  ['localhost.example.com:80', false, { host: 'localhost.example.com', port: 80 }],
];
for (const [text, loopback, options] of good)
  test(`${text.slice(0, 40)} is read, written the same, and ${loopback ? '' : 'not '}this machine's`, () => {
    const address = parseAddress(text);
    assert.deepEqual(socketOptions(address), options);
    assert.equal(formatAddress(address), text);
    assert.equal(isLoopback(address), loopback);
  });

const bad = [
  '',
  '8788',
  '127.0.0.1',
  '127.0.0.1:',
  '127.0.0.1:x',
  '127.0.0.1:-1',
  '127.0.0.1:65536',
  '::1:80',
  '[::1]',
  '[::1',
  'http://a:80',
  'a b:80',
  'a:80 ',
  'a:80\n',
  'user@a:80',
  'unix:relative',
  'unix:',
  `unix:${long}a`,
  `unix:/${'é'.repeat((UNIX_PATH_MAX + 1) / 2)}`,
];
for (const text of bad)
  test(`${JSON.stringify(text.slice(0, 40))} is refused`, () => {
    assert.throws(() => parseAddress(text), { code: 'CONFIG_INVALID' });
  });
