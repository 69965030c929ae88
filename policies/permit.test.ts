import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutriderError } from '#core/errors';
import type { PolicyDocuments } from './document.ts';
import { boundary, datasource, documents, egress } from './fixture.ts';
import { addressRefusal, grantDatasource } from './grant.ts';
import { parseIp } from './ip.ts';
import { authorize } from './permit.ts';
import { compilePolicySet, rolePolicy } from './policy-set.ts';
import { requestTarget } from './request-line.ts';
import type { Target } from './target.ts';

const READ = { methods: ['GET'], paths: 'any' } as const;
const NEVER = 0;

const WEB = documents({
  egressPolicies: [
    egress(
      'web',
      [
        { id: 'api', hosts: ['api.example.com'], ...READ },
        { id: 'opaque', hosts: ['tunnel.example.com'], protocols: ['tunnel'] },
        { id: 'net', cidrs: ['203.0.113.0/24'], ...READ },
        { id: 'lan', cidrs: ['10.1.0.0/16'], allowPrivate: true, ...READ },
      ],
      [
        { id: 'not-there', cidrs: ['198.51.100.0/24'] },
        { id: 'not-here', hosts: ['tunnel.example.com'], cidrs: ['192.0.2.0/24'], paths: ['/x'] },
      ],
    ),
  ],
  boundaries: [boundary('org', { neverCidrs: ['8.8.8.0/24'], mayPrivate: ['10.1.0.0/16'] })],
});

const addresses = [
  ['GET https://api.example.com/', '203.0.113.9', true],
  ['GET https://api.example.com/', '2001:db8::9', true],
  ['GET https://api.example.com/', '192.0.2.9', true],
  ['GET https://api.example.com/', '127.0.0.1', false],
  ['GET https://api.example.com/', '10.1.0.1', false],
  ['GET https://api.example.com/', '169.254.169.254', false],
  ['GET https://api.example.com/', '::ffff:10.0.0.1', false],
  ['GET https://api.example.com/', '64:ff9b::7f00:1', false],
  ['GET https://api.example.com/', '::1', false],
  ['GET https://api.example.com/', 'fe80::1', false],
  ['GET https://api.example.com/', '8.8.8.8', false],
  ['GET https://api.example.com/', '198.51.100.7', false],
  ['CONNECT tunnel.example.com:443', '203.0.113.9', true],
  ['CONNECT tunnel.example.com:443', '192.0.2.9', false],
  ['GET https://203.0.113.7/', '203.0.113.7', true],
  ['GET https://203.0.113.7/', '203.0.113.8', false],
  ['GET https://10.1.2.3/', '10.1.2.3', true],
] as const;
for (const [request, address, may] of addresses) {
  test(`${request} at ${address} ${may ? 'may be dialled' : 'must not be dialled'}`, () => {
    const permit = authorize(policyOf(WEB), target(request), NEVER);
    assert.equal(addressRefusal(permit, bytes(address)), may ? undefined : 'resolved_ip_forbidden');
  });
}

test('what is denied gets no permit, but an error with the decision inside', () => {
  assert.throws(
    () => authorize(policyOf(WEB), target('POST https://api.example.com/a?token=x'), NEVER),
    (error) => {
      assert.ok(error instanceof OutriderError);
      assert.equal(error.code, 'EGRESS_DENIED');
      assert.equal(
        error.message,
        'https://api.example.com/a is not allowed: no rule allows this method here',
      );
      assert.partialDeepStrictEqual(error.cause, { verdict: 'deny', reason: 'method_not_allowed' });
      return true;
    },
  );
});

test('a tunnel whose rule looks at requests gets no permit', () => {
  assert.throws(
    () => authorize(policyOf(WEB), target('CONNECT api.example.com:443'), NEVER),
    (error) => {
      assert.ok(error instanceof OutriderError);
      assert.partialDeepStrictEqual(error.cause, { reason: 'interception_required' });
      return true;
    },
  );
  authorize(policyOf(WEB), target('CONNECT tunnel.example.com:443'), NEVER);
});

const BOTH = { mayLoopbackDatasources: true, mayPrivate: ['10.1.0.0/16'] };
const endpoints = [
  ['http://127.0.0.1:9090', { allowLoopback: true }, '127.0.0.1', true],
  ['http://127.0.0.1:9090', { allowLoopback: true }, '10.1.0.1', false],
  ['http://localhost:9090', { allowLoopback: true }, '::1', true],
  ['http://10.1.0.1:9090', { allowPrivate: true }, '10.1.0.1', true],
  ['http://db.example.com', { allowPrivate: true }, '10.1.0.1', true],
  ['http://db.example.com', { allowPrivate: true }, '10.2.0.1', false],
  ['http://db.example.com', { allowPrivate: true }, '127.0.0.1', false],
  ['http://db.example.com', { allowPrivate: true }, '169.254.169.254', false],
  ['http://db.example.com', { allowPrivate: true }, '203.0.113.7', true],
  ['http://db.example.com', {}, '10.1.0.1', false],
  ['http://db.example.com', {}, '127.0.0.1', false],
  ['http://db.example.com', {}, '203.0.113.7', true],
] as const;
for (const [endpoint, allow, address, may] of endpoints) {
  test(`a datasource at ${endpoint} with ${JSON.stringify(allow)} ${may ? 'may' : 'must not'} be dialled at ${address}`, () => {
    const set = compilePolicySet(
      documents({
        egressPolicies: [egress('one', [{ id: 'metrics', datasource: 'prometheus/main' }])],
        datasources: [datasource('prometheus', 'main', { endpoint, ...allow })],
        boundaries: [boundary('org', BOTH)],
      }),
      'd',
    );
    const to = target('GET /prometheus/main/api/v1/query');
    assert.ok(to.kind === 'datasource');
    const permit = authorize(rolePolicy(set, 'analyst', ''), to, NEVER);
    assert.equal(
      addressRefusal(permit, bytes(address)),
      'resolved_ip_forbidden',
      'the permit alone opens no address',
    );
    const grant = grantDatasource(set, permit);
    assert.ok(grant);
    assert.equal(grant.datasource.spec.endpoint, endpoint);
    assert.equal(addressRefusal(grant, bytes(address)), may ? undefined : 'resolved_ip_forbidden');
  });
}

test('a set without the datasource gives no grant', () => {
  const rule = egress('one', [{ id: 'metrics', datasource: 'prometheus/main' }]);
  const set = compilePolicySet(
    documents({ egressPolicies: [rule], datasources: [datasource('prometheus', 'main')] }),
    'd',
  );
  const to = target('GET /prometheus/main/');
  assert.ok(to.kind === 'datasource');
  const permit = authorize(rolePolicy(set, 'analyst', ''), to, NEVER);
  assert.equal(grantDatasource(compilePolicySet(documents(), 'e'), permit), undefined);
  assert.ok(grantDatasource(set, permit));
});

function policyOf(from: PolicyDocuments) {
  return rolePolicy(compilePolicySet(from, 'd'), 'analyst', '');
}

function target(request: string): Target {
  const canonical = requestTarget(request);
  assert.ok(canonical.ok, request);
  return canonical.target;
}

function bytes(text: string): Uint8Array {
  const address = parseIp(text);
  assert.ok(address);
  return address;
}
