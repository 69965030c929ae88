import assert from 'node:assert/strict';
import { test } from 'node:test';
import { downstreamHeaders, downstreamText, upstreamHeaders } from './headers.ts';

const rules = {
  host: 'api.example.com',
  anonymous: true,
  strip: ['x-dummy'],
  inject: [['authorization', 'Bearer ours']] as readonly (readonly [string, string])[],
};
const onWire = (raw: readonly string[], changed: Partial<typeof rules> = {}) => {
  const flat = upstreamHeaders(raw, { ...rules, ...changed });
  return Array.from({ length: flat.length / 2 }, (_, at) => `${flat[at * 2]}: ${flat[at * 2 + 1]}`);
};

const removed: readonly (readonly [string, string])[] = [
  ['Authorization', 'Bearer theirs'],
  ['AUTHORIZATION', 'Basic x'],
  ['Cookie', 'session=1'],
  ['Proxy-Authorization', 'Bearer token'],
  ['Proxy-Connection', 'keep-alive'],
  ['X-Forwarded-For', '10.0.0.1'],
  ['X-Forwarded-User', 'root'],
  ['Forwarded', 'for=1'],
  ['X-Real-IP', '1'],
  ['X-ClickHouse-User', 'default'],
  ['Private-Token', 'glpat-theirs'],
  ['X-Scope-OrgID', 'other'],
  ['X-Outrider-Role', 'admin'],
  ['X-Datasource', 'main'],
  ['X-User-ID', 'root'],
  ['Private-Token', 'theirs'],
  ['api-key', 'theirs'],
  ['X-Access-Token', 'theirs'],
  ['X-Tenant-ID', 'other'],
  ['X-Impersonate-User', 'root'],
  ['CF-Connecting-IP', '10.0.0.1'],
  ['X-Dummy', 'stripped by the binding'],
  ['X_Dummy', 'the same to some servers'],
  ['X.Forwarded.User', 'root'],
  ['X_Goog_Anything', 'theirs'],
  ['Keep-Alive', 'timeout=5'],
  ['TE', 'trailers'],
  ['Upgrade', 'h2c'],
  ['Expect', '100-continue'],
  ['Transfer-Encoding', 'chunked'],
  ['Host', 'evil.example'],
];
for (const name of [
  'X-HTTP-Method-Override',
  'X_HTTP_Method_Override',
  'X-Method',
  'X-Original-URL',
  'X_Rewrite_URL',
  'X-Override-URL',
  'X-Host',
  'X-HTTP-Host-Override',
  'X-HTTP-DestinationURL',
  'X-Envoy-Original-Path',
  'X_Datasource',
  'X.Original.URL',
  'Proxy_Authorization',
  'Transfer_Encoding',
  'Content_Length',
])
  test(`${name} reaches no upstream, with a credential or without`, () => {
    const raw = [name, 'DELETE', 'Accept', '*/*'];
    assert.deepEqual(onWire(raw, { anonymous: false, inject: [] }), [
      'host: api.example.com',
      'Accept: */*',
    ]);
  });

for (const [name, value] of removed)
  test(`${name} does not reach an upstream that gets a credential`, () => {
    assert.deepEqual(onWire([name, value, 'Accept', '*/*']), [
      'host: api.example.com',
      'Accept: */*',
      'authorization: Bearer ours',
    ]);
  });

test('what a program needs goes through unchanged and in order', () => {
  const raw = ['Accept', 'a/b', 'X-Custom', '1', 'x-custom', '2', 'Content-Length', '3'];
  assert.deepEqual(onWire(raw, { inject: [] }), [
    'host: api.example.com',
    'Accept: a/b',
    'X-Custom: 1',
    'x-custom: 2',
    'Content-Length: 3',
  ]);
});

test("without a credential the program's own Authorization goes through", () => {
  assert.deepEqual(onWire(['Authorization', 'Bearer theirs'], { anonymous: false, inject: [] }), [
    'host: api.example.com',
    'Authorization: Bearer theirs',
  ]);
});

test('an injected header replaces one that nothing else would remove', () => {
  const inject = [['X-Key', 'ours']] as const;
  assert.deepEqual(onWire(['x-key', 'theirs', 'X-KEY', 'again'], { anonymous: false, inject }), [
    'host: api.example.com',
    'X-Key: ours',
  ]);
});

test('a Connection that names the injected header removes only the one that came in', () => {
  assert.deepEqual(onWire(['Connection', 'close, authorization, X-Hop', 'X-Hop', '1']), [
    'host: api.example.com',
    'authorization: Bearer ours',
  ]);
});

test('a Connection that names Content-Length does not unframe the body', () => {
  assert.ok(
    onWire(['Connection', 'content-length', 'Content-Length', '5']).includes('Content-Length: 5'),
  );
});

test('an answer loses what belongs to the connection, to us, and cookies made from our credential', () => {
  const raw = [
    ['Content-Type', 'text/plain'],
    ['Connection', 'close, X-Hop'],
    ['X-Hop', '1'],
    ['Keep-Alive', 'timeout=5'],
    ['X-Outrider-Reason', 'forged'],
    ['Proxy-Authenticate', 'Basic'],
    ['Set-Cookie', 'session=ours'],
    ['X-Echo', 'hunter22'],
  ];
  const bytes = raw.flat().map((text) => Buffer.from(text));
  const cover = (texts: string[]) => texts.map((text) => text.replaceAll('hunter22', '********'));
  assert.deepEqual(downstreamHeaders(bytes, { anonymous: true, cover }), [
    'Content-Type',
    'text/plain',
    'X-Echo',
    '********',
  ]);
  assert.ok(downstreamHeaders(bytes, { anonymous: false, cover }).includes('session=ours'));
});

test('what has no body loses its length, and nothing else does', () => {
  const raw = ['Content-Length', '4', 'Content-Type', 'text/plain'];
  const rest = raw.slice(2);
  const cover = (texts: string[]) => texts;
  for (const [status, out] of [
    [101, rest],
    [204, rest],
    [200, raw],
    [205, raw],
    [304, raw],
    [undefined, raw],
  ] as const)
    assert.deepEqual(
      downstreamText(raw, { ...(status && { status }), anonymous: false, cover }),
      out,
    );
});
