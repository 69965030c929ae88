import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalJson } from './canonical-json.ts';
import type { AllowRuleSpec, DenyRuleSpec } from './document.ts';
import { binding, documents, egress } from './fixture.ts';
import { mutants } from './mutants.ts';

const rules = (allow: readonly AllowRuleSpec[], deny: readonly DenyRuleSpec[] = []) =>
  documents({
    egressPolicies: [egress('p', allow, deny)],
    credentialBindings: [binding('key', ['a.example.com']), binding('other', ['b.example.com'])],
  });
const changes = (of: ReturnType<typeof rules>) => [...mutants(of)].map(({ change }) => change);

const BASE: AllowRuleSpec = { id: 'r', hosts: ['a.example.com'], methods: ['GET'], paths: ['/v1'] };
const cases: readonly (readonly [string, AllowRuleSpec, readonly string[]])[] = [
  [
    'every rule is left out; a host is widened to what is beneath and beside it; a method to any and to one that writes; a path to everything, to what is beneath and beside it; a port is added',
    BASE,
    [
      'p/r: left out',
      'p/r: hosts: a.example.com becomes a.example.com and *.a.example.com',
      'p/r: hosts: a.example.com becomes *.example.com',
      'p/r: methods GET become any',
      'p/r: methods with POST',
      'p/r: paths /v1 become any',
      'p/r: paths: /v1 becomes /v1/**',
      'p/r: paths: /v1 becomes /*',
      'p/r: ports with 8443',
    ],
  ],
  [
    'a wildcard is widened to the name itself and to its parent; lists lose each entry; any is narrowed',
    {
      id: 'r',
      hosts: ['*.a.example.com', 'b.test'],
      methods: 'any',
      paths: 'any',
      ports: [443, 8443],
    },
    [
      'p/r: left out',
      'p/r: hosts without *.a.example.com',
      'p/r: hosts: *.a.example.com becomes *.a.example.com and a.example.com',
      'p/r: hosts: *.a.example.com becomes *.example.com',
      'p/r: hosts without b.test',
      'p/r: hosts: b.test becomes b.test and *.b.test',
      'p/r: methods any become GET',
      'p/r: paths any become /',
      'p/r: ports with 8444',
      'p/r: ports without 443',
      'p/r: ports without 8443',
    ],
  ],
  [
    'a range is doubled',
    { id: 'r', cidrs: ['203.0.113.0/24'], protocols: ['tunnel'] },
    ['p/r: left out', 'p/r: cidrs: 203.0.113.0/24 becomes 203.0.112.0/23', 'p/r: ports with 8443'],
  ],
  [
    'each segment of a path in turn: a star becomes a word, a word a star, and ** loses what stands before it or its depth',
    { id: 'r', datasource: 'http/x', paths: ['/u/*/x', '/a/**'] },
    [
      'p/r: left out',
      'p/r: paths /u/*/x, /a/** become any',
      'p/r: paths without /u/*/x',
      'p/r: paths: /u/*/x becomes /u/*/x/**',
      'p/r: paths: /u/*/x becomes /*/*/x',
      'p/r: paths: /u/*/x becomes /u/only-this/x',
      'p/r: paths: /u/*/x becomes /u/*/*',
      'p/r: paths without /a/**',
      'p/r: paths: /a/** becomes /**',
      'p/r: paths: /a/** becomes /a/*',
    ],
  ],
  [
    'a query loses its strictness, each pattern its meaning, and each name its pattern',
    { id: 'r', datasource: 'http/x', query: { a: '1', b: '2' }, queryStrict: true },
    [
      'p/r: left out',
      'p/r: without queryStrict',
      'p/r: query: any a',
      'p/r: query without a',
      'p/r: query: any b',
      'p/r: query without b',
    ],
  ],
  [
    'a credential is left out and exchanged; protocols are forgotten, and each is left out',
    { id: 'r', datasource: 'http/x', credential: 'key', protocols: ['websocket', 'http1'] },
    [
      'p/r: left out',
      'p/r: protocols websocket, http1 become the usual',
      'p/r: protocols without websocket',
      'p/r: protocols without http1',
      'p/r: without the credential key',
      'p/r: the credential key becomes other',
    ],
  ],
  [
    'labels are forgotten one by one, and so are the parts of an API that may be used',
    {
      id: 'r',
      datasource: 'prometheus/x',
      labels: { a: '1', b: '2' },
      endpoints: ['query', 'labels'],
    },
    [
      'p/r: left out',
      'p/r: labels without a',
      'p/r: labels without b',
      'p/r: without its endpoints',
      'p/r: endpoints without query',
      'p/r: endpoints without labels',
    ],
  ],
  [
    'a table becomes its whole database, tables and prefixes any, and a prefix the one above',
    { id: 'r', datasource: 'clickhouse/x', tables: ['a.t', 'b.*'], prefixes: ['x/y/'] },
    [
      'p/r: left out',
      'p/r: tables a.t, b.* become any',
      'p/r: tables without a.t',
      'p/r: tables: a.t becomes a.*',
      'p/r: tables without b.*',
      'p/r: prefixes x/y/ become any',
      'p/r: prefixes: x/y/ becomes x/',
    ],
  ],
];
for (const [fact, rule, expected] of cases)
  test(fact, () => assert.deepEqual(changes(rules([rule])), expected));

test('a deny rule is left out, is narrowed and widened like others, and loses each of its conditions but the only one', () => {
  const found = changes(rules([], [{ id: 'd', hosts: ['a.test'], paths: ['/x/**'] }]));
  assert.deepEqual(found, [
    'p/d: left out',
    'p/d: hosts: a.test becomes a.test and *.a.test',
    'p/d: paths /x/** become any',
    'p/d: paths: /x/** becomes /**',
    'p/d: paths: /x/** becomes /x/*',
    'p/d: without its hosts',
    'p/d: without its paths',
  ]);
});

test('subjects are left out, and forget their tenant', () => {
  const subjects = [{ role: 'a', tenant: 't' }, { role: 'b' }];
  const of = documents({ egressPolicies: [egress('p', [], [], { subjects })] });
  assert.deepEqual(changes(of), [
    'p: the subject a of t left out',
    'p: the subject a of t becomes a of any tenant',
    'p: the subject b left out',
  ]);
});

test('every mutant differs from the original and from every other, and the original stays as it was', () => {
  const original = rules(cases.map(([, rule], at) => ({ ...rule, id: `r${at}` })));
  const before = canonicalJson(original);
  const texts = [...mutants(original)].map(({ documents: changed }) => canonicalJson(changed));
  assert.equal(canonicalJson(original), before);
  assert.equal(new Set([before, ...texts]).size, texts.length + 1);
});
