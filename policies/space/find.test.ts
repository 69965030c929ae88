import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AllowRuleSpec, DenyRuleSpec } from '../document.ts';
import { documents, egress } from '../fixture.ts';
import { eachPolicy } from '../project.ts';
import { requestTarget } from '../request-line.ts';
import { allowBoxes, denyBoxes } from './box.ts';
import { find } from './find.ts';
import { Layer } from './layer.ts';

/** A request that `rule` names and none of `others` does. */
function between(
  rule: Partial<AllowRuleSpec>,
  others: readonly Partial<AllowRuleSpec>[],
  deny: readonly Partial<DenyRuleSpec>[] = [],
): string | undefined {
  const whole = (one: Partial<AllowRuleSpec>, i: number): AllowRuleSpec => ({
    id: `r${i}`,
    ...(one.cidrs || one.datasource ? {} : { hosts: ['a.example.com'] }),
    methods: ['GET'],
    paths: 'any',
    ...one,
  });
  const policy = egress(
    'p',
    [rule, ...others].map(whole),
    deny.map((one, i) => ({ id: `d${i}`, ...one })),
  );
  const [projection] = eachPolicy(documents({ egressPolicies: [policy] })).values();
  const [first, ...rest] = projection?.allow ?? [];
  assert.ok(first && projection);
  const boxes = [...rest.flatMap(allowBoxes), ...projection.deny.flatMap(denyBoxes)];
  const layer = new Layer(boxes.map((box) => ({ box })));
  for (const box of allowBoxes(first)) {
    const found = find(box, [{ layer }]);
    if (found) return found.request;
  }
  return undefined;
}

/** A name of so many octets. */
const name = (octets: number) =>
  `${'a'.repeat(61)}.${'b'.repeat(61)}.${'c'.repeat(61)}.${'d'.repeat(octets - 190)}.com`;

type Case = readonly [
  what: string,
  rule: Partial<AllowRuleSpec>,
  others: readonly Partial<AllowRuleSpec>[],
  found: string | undefined,
  deny?: readonly Partial<DenyRuleSpec>[],
];

const cases: readonly Case[] = [
  ['nothing in the way', {}, [], 'GET https://a.example.com/'],
  ['itself', {}, [{}], undefined],
  [
    'the same with one method more',
    { methods: ['GET', 'PUT'] },
    [{}],
    'PUT https://a.example.com/',
  ],
  ['two halves', { methods: ['GET', 'PUT'] }, [{}, { methods: ['PUT'] }], undefined],
  ['another port', { ports: [443, 8443] }, [{}], 'GET https://a.example.com:8443/'],
  ['another scheme', { scheme: 'http' }, [{}], 'GET http://a.example.com/'],
  [
    'another protocol',
    { protocols: ['http1', 'websocket'] },
    [{}],
    'GET https://a.example.com/ websocket',
  ],
  ['a gRPC call is POST alone', { protocols: ['grpc'] }, [], undefined],
  ['a gRPC call', { protocols: ['grpc'], methods: 'any' }, [], 'POST https://a.example.com/ grpc'],
  ['a wildcard around a name', { hosts: ['*.example.com'] }, [{}], 'GET https://any.example.com/'],
  ['a name within a wildcard', {}, [{ hosts: ['*.example.com'] }], undefined],
  [
    'a wildcard that holds the first choice',
    { hosts: ['*.example.com'] },
    [{ hosts: ['any.example.com'] }, { hosts: ['*.any1.example.com'] }],
    'GET https://any2.example.com/',
  ],
  [
    'a wildcard with room for one letter',
    { hosts: [`*.${name(251)}`] },
    [],
    `GET https://a.${name(251)}/`,
  ],
  ['a wildcard with no room', { hosts: [`*.${name(252)}`] }, [], undefined],

  [
    'a star and the empty segment',
    { paths: ['/**'] },
    [{ paths: ['/*', '/*/**'] }],
    'GET https://a.example.com/',
  ],
  ['everything in pieces', { paths: ['/**'] }, [{ paths: ['/', '/*/**'] }], undefined],
  [
    'what is longer than all',
    { paths: ['/a/**'] },
    [{ paths: ['/a', '/a/', '/a/*', '/a/*/'] }],
    'GET https://a.example.com/a/any/any',
  ],
  [
    'what is shorter than all',
    { paths: ['/a/**'] },
    [{ paths: ['/a/', '/a/*/**'] }],
    'GET https://a.example.com/a',
  ],
  [
    'a slash at the end',
    { paths: ['/a/**'] },
    [{ paths: ['/a', '/a/*/**'] }],
    'GET https://a.example.com/a/',
  ],
  [
    'a star that some name',
    { paths: ['/*/b'] },
    [{ paths: ['/any/b', '/any1/*'] }],
    'GET https://a.example.com/any2/b',
  ],
  ['a star that all name', { paths: ['/*/b'] }, [{ paths: ['/*/*'] }], undefined],
  [
    'two open ends',
    { paths: ['/*/b/**'] },
    [{ paths: ['/*/*/*/**', '/*/b'] }],
    'GET https://a.example.com/any/b/',
  ],

  [
    'a parameter that is not asked for',
    {},
    [{ query: { n: '[0-9]' } }],
    'GET https://a.example.com/?n=x',
  ],
  [
    'longer numbers',
    { query: { n: '[0-9]{1,4}' } },
    [{ query: { n: '[0-9]{1,3}' } }],
    'GET https://a.example.com/?n=0000',
  ],
  ['shorter numbers', { query: { n: '[0-9]{1,2}' } }, [{ query: { n: '[0-9]+' } }], undefined],
  ['the same in other words', { query: { n: 'aa*' } }, [{ query: { n: 'a+' } }], undefined],
  [
    'one alternative of two',
    { query: { n: 'ab|cd' } },
    [{ query: { n: 'ab' } }],
    'GET https://a.example.com/?n=cd',
  ],
  [
    'one value for each rule',
    {},
    [{ query: { n: '0' } }, { query: { m: '1' } }],
    'GET https://a.example.com/?n=x&m=x',
  ],
  [
    'values that need encoding',
    { query: { n: '[a =]' } },
    [{ query: { n: 'a|=' } }],
    'GET https://a.example.com/?n=%20',
  ],
  [
    'other parameters',
    { query: { n: 'a' } },
    [{ query: { n: 'a' }, queryStrict: true }],
    'GET https://a.example.com/?any=x',
  ],
  [
    'no other parameters',
    { query: { n: 'a' }, queryStrict: true },
    [{ query: { n: 'a' } }],
    undefined,
  ],
  [
    'another set of names',
    { query: { n: 'a', m: 'b' }, queryStrict: true },
    [{ query: { n: 'a' }, queryStrict: true }],
    'GET https://a.example.com/?m=b',
  ],
  [
    'a parameter that may not be there',
    { query: { n: 'a' }, queryStrict: true },
    [{ query: { m: 'b' } }],
    undefined,
  ],
  ['a query against none', { query: { n: 'a' } }, [{}], undefined],
  [
    'no value is longer than 1024',
    { query: { n: 'a{999}a{999}' } },
    [{ query: { n: 'b' } }],
    undefined,
  ],

  [
    'a range within a range',
    { cidrs: ['203.0.113.0/28'] },
    [{ cidrs: ['203.0.113.0/24'] }],
    undefined,
  ],
  [
    'a range around a range',
    { cidrs: ['203.0.113.0/24'] },
    [{ cidrs: ['203.0.113.0/28'] }],
    'GET https://203.0.113.16/',
  ],
  [
    'a range in halves',
    { cidrs: ['203.0.113.0/24'] },
    [{ cidrs: ['203.0.113.0/25'] }, { cidrs: ['203.0.113.128/25'] }],
    undefined,
  ],
  ['what no rule opens', { cidrs: ['0.0.0.0/0'] }, [], 'GET https://1.0.0.0/'],
  ['private without the word', { cidrs: ['10.0.0.0/8'] }, [], undefined],
  [
    'private with the word',
    { cidrs: ['10.0.0.0/8'], allowPrivate: true },
    [{ cidrs: ['0.0.0.0/0'] }],
    'GET https://10.0.0.0/',
  ],
  [
    'an IPv6 range',
    { cidrs: ['2001:db8::/32'] },
    [{ cidrs: ['2001:db8::/33'] }],
    'GET https://[2001:db8:8000::]/',
  ],
  ['addresses that hide others', { cidrs: ['2001:db8:0:0:0:5efe::/96'] }, [], undefined],
  [
    'beside addresses that hide others',
    { cidrs: ['2001:db8:0:0:0:5efe::/95'] },
    [],
    'GET https://[2001:db8::5eff:0:0]/',
  ],
  ['metadata', { cidrs: ['169.254.169.254/32'], allowPrivate: true }, [], undefined],

  [
    'a datasource',
    { datasource: 'prometheus/main' },
    [{ datasource: 'prometheus/other' }],
    'GET /prometheus/main/',
  ],
  [
    'a datasource and its paths',
    { datasource: 'loki/a', paths: ['/x/**'] },
    [{ datasource: 'loki/a', paths: ['/x'] }],
    'GET /loki/a/x/',
  ],

  ['a deny rule for everything', {}, [], undefined, [{ methods: ['GET'] }]],
  [
    'a deny rule for another method',
    { methods: 'any' },
    [],
    'HEAD https://a.example.com/',
    [{ methods: ['GET'] }],
  ],
  [
    'a deny rule for another port',
    { ports: [80, 443] },
    [],
    'GET https://a.example.com/',
    [{ ports: [80] }],
  ],
  [
    'a deny rule with ports is none for datasources',
    { datasource: 'loki/a' },
    [],
    'GET /loki/a/',
    [{ ports: [80], methods: ['GET'] }],
  ],
  [
    'a deny rule for everything holds datasources',
    { datasource: 'loki/a' },
    [],
    undefined,
    [{ methods: ['GET'] }],
  ],
  [
    'until a name is resolved a range says nothing',
    {},
    [],
    'GET https://a.example.com/',
    [{ cidrs: ['0.0.0.0/0'] }],
  ],
];

for (const [what, rule, others, found, deny] of cases)
  test(`${what}: ${found ?? 'nothing is left'}`, () => {
    assert.equal(between(rule, others, deny), found);
    if (found !== undefined) assert.ok(requestTarget(found).ok);
  });

test('query patterns that take too long to compare are an error, not a guess', () => {
  const hard = `[ab]*a[ab]{18}`;
  assert.throws(
    () =>
      between({ query: { n: '[ab]*' } }, [{ query: { n: `${hard}|[ab]{0,18}|[ab]*b[ab]{18}` } }]),
    {
      code: 'POLICY_INVALID',
    },
  );
  assert.equal(between({ query: { n: '[ab]{0,9}' } }, [{ query: { n: '[ab]{0,12}' } }]), undefined);
});
