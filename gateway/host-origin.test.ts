import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHostOriginCheck, LOOPBACK_HOSTS, LOOPBACK_ORIGINS } from './host-origin.ts';

const byDefault = createHostOriginCheck(LOOPBACK_HOSTS, LOOPBACK_ORIGINS);
const configured = createHostOriginCheck(
  ['mcp.example.com', 'other.example.com:8443'],
  ['https://app.example.com', 'http://dev.example.com:*'],
);

const HOSTS = [
  [byDefault, 'localhost:8788', true, 'this machine, any port'],
  [byDefault, '127.0.0.1', true, 'this machine, no port'],
  [byDefault, '[::1]:1', true, 'this machine over IPv6'],
  [byDefault, 'LocalHost:1', true, 'case is no difference'],
  [byDefault, 'attacker.example:8788', false, 'a rebound name'],
  [byDefault, 'localhost.attacker.example', false, 'a name that begins well'],
  [byDefault, '127.0.0.1.attacker.example', false, 'a name that looks like the address'],
  [byDefault, 'localhost:80:80', false, 'not a host'],
  [byDefault, 'user@localhost', false, 'not a host'],
  [byDefault, '', false, 'empty'],
  [byDefault, undefined, false, 'absent'],
  [configured, 'mcp.example.com:444', true, 'an entry without a port is any port'],
  [configured, 'other.example.com:8443', true, 'an entry with a port'],
  [configured, 'other.example.com', false, 'an entry with a port is that port'],
  [configured, 'localhost:8788', false, 'the list replaces the default'],
] as const;

for (const [check, host, allowed, why] of HOSTS)
  test(`A9: ${allowed ? 'allows' : 'refuses'} the host ${host}: ${why}`, () => {
    const call = () => check(host, undefined);
    if (allowed) assert.doesNotThrow(call);
    else assert.throws(call, { code: 'HOST_NOT_ALLOWED' });
  });

const ORIGINS = [
  [byDefault, undefined, true, 'no browser'],
  [byDefault, 'http://localhost:5173', true, 'a page of this machine'],
  [byDefault, 'https://[::1]', true, 'a page of this machine'],
  [byDefault, 'https://attacker.example', false, 'another site'],
  [byDefault, 'null', false, 'a page without an origin'],
  [byDefault, '', false, 'empty'],
  [byDefault, 'http://localhost:5173/path', false, 'not an origin'],
  [byDefault, 'http://attacker@localhost', false, 'not an origin'],
  [byDefault, 'file://localhost', false, 'another scheme'],
  [byDefault, 'http://localhost.attacker.example', false, 'a name that begins well'],
  [configured, 'https://app.example.com', true, 'listed'],
  [configured, 'https://app.example.com:443', true, 'the default port, spelt out'],
  [configured, 'http://app.example.com', false, 'another scheme'],
  [configured, 'https://app.example.com:8443', false, 'another port'],
  [configured, 'http://dev.example.com:3000', true, 'any port'],
] as const;

for (const [check, origin, allowed, why] of ORIGINS)
  test(`A9: ${allowed ? 'allows' : 'refuses'} the origin ${origin}: ${why}`, () => {
    const host = check === byDefault ? 'localhost' : 'mcp.example.com';
    const call = () => check(host, origin);
    if (allowed) assert.doesNotThrow(call);
    else assert.throws(call, { code: 'ORIGIN_NOT_ALLOWED' });
  });

test('an entry that could never match is refused at the start', () => {
  assert.throws(() => createHostOriginCheck(['http://localhost'], []), { code: 'CONFIG_INVALID' });
  assert.throws(() => createHostOriginCheck([], ['localhost']), { code: 'CONFIG_INVALID' });
});
