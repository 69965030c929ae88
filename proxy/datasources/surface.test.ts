import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import {
  type AskOptions,
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
} from '../testing.ts';

// F5: what a program is told, by status and code, the same in all three spellings of a datasource.

type Spelling = (name: string, path: string) => readonly [target: string, options: AskOptions];
const SPELLINGS: readonly (readonly [string, Spelling])[] = [
  ['path', (name, path) => [`/http/${name}${path}`, {}]],
  ['header', (name, path) => [`/http${path}`, { headers: { 'x-datasource': name } }]],
  ['host', (name, path) => [`http://http-${name}.outrider.internal${path}`, {}]],
];

/** Datasources that answer, answer never, are not there, and are not granted; and one with a limit of one request. `bounds` are the proxy's. */
async function surfaceMesh(
  t: TestContext,
  bounds: Readonly<Record<string, string>> = {},
): Promise<Mesh> {
  const origin = await startOrigin(t);
  const slow = await startOrigin(t, () => {});
  const silent = await startSilent();
  t.after(silent.close);
  const limits = { rate: '6000/min', burst: 100 };
  const granted = ['up', 'slow', 'down', 'silent', 'keyed'];
  const at = (port: number, scheme = 'http') => `${scheme}://127.0.0.1:${port}`;
  return startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        ...granted.map((name) => ({
          id: name,
          datasource: `http/${name}`,
          methods: ['GET'],
          paths: ['/v1/**'],
          limits,
        })),
        { id: 'once', datasource: 'http/once', limits: { rate: '1/h', burst: 1 } },
      ]),
      datasource('http', 'up', at(origin.port)),
      datasource('http', 'once', at(origin.port)),
      datasource('http', 'hidden', at(origin.port)),
      datasource('http', 'slow', at(slow.port)),
      datasource('http', 'down', at(1)),
      datasource('http', 'silent', at(silent.port, 'https')),
      datasource('http', 'keyed', at(origin.port), {
        auth: { type: 'bearer' },
        secretRef: 'file:not-there',
      }),
    ],
    config: bounds,
  });
}

const CASES: readonly (readonly [number, string, string, string, AskOptions?])[] = [
  [200, '', 'up', '/v1/x'],
  [401, 'UNAUTHENTICATED', 'up', '/v1/x', { token: '' }],
  [401, 'UNAUTHENTICATED', 'up', '/v1/x', { token: 'not.a.token' }],
  [403, 'EGRESS_DENIED', 'up', '/v2/x'],
  [405, 'EGRESS_DENIED', 'up', '/v1/x', { method: 'DELETE' }],
  [404, 'DATASOURCE_UNKNOWN', 'nothing', '/v1/x'],
  [403, 'EGRESS_DENIED', 'hidden', '/v1/x'],
  [502, 'UPSTREAM_UNREACHABLE', 'down', '/v1/x'],
  [503, 'CREDENTIAL_UNAVAILABLE', 'keyed', '/v1/x'],
];
/** What is waited for; each at a proxy with one short bound, so that no other is what ends it. */
const LATE_CASES = [
  [502, 'UPSTREAM_UNREACHABLE', 'silent', { connectTimeout: '300ms' }],
  [504, 'UPSTREAM_TIMEOUT', 'slow', { upstreamTimeout: '300ms' }],
] as const;

for (const [spelling, spell] of SPELLINGS)
  test(`F5: by ${spelling}: 200, 401, 403, 404, 405, 502, 503 and 504 are what they should be`, async (t) => {
    const { ask } = await surfaceMesh(t);
    for (const [status, code, name, path, more = {}] of CASES) {
      const [target, options] = spell(name, path);
      const got = await ask(target, { ...options, ...more });
      assert.equal(got.status, status, `${name}${path}: ${got.body}`);
      assert.equal(got.error.code ?? '', code, `${name}${path}`);
    }
    for (const [status, code, name, bounds] of LATE_CASES) {
      const late = await surfaceMesh(t, bounds);
      const got = await late.ask(...spell(name, '/v1/x'));
      assert.deepEqual([got.status, got.error.code], [status, code], `${name}: ${got.body}`);
    }
  });

for (const [spelling, spell] of SPELLINGS)
  test(`F5: by ${spelling}: the request beyond the limit is 429 with the time to wait`, async (t) => {
    const { ask } = await surfaceMesh(t);
    const [target, options] = spell('once', '/v1/x');
    assert.equal((await ask(target, options)).status, 200);
    const got = await ask(target, options);
    assert.equal(got.status, 429, got.body);
    assert.ok(Number(got.headers['retry-after']) > 0);
  });

for (const target of ['/', '/http', '/http/', '/loki', '/clickhouse/'])
  test(`F5: ${target} names no datasource: 400`, async (t) => {
    const { ask } = await surfaceMesh(t);
    const got = await ask(target);
    assert.equal(got.status, 400, got.body);
    assert.equal(got.error.code, 'DATASOURCE_MISSING');
  });

test('F5: by the settings that we ship, an upstream that takes a connection and says nothing is 502, and not after minutes', async (t) => {
  const { port, close } = await startSilent();
  t.after(close);
  const { ask } = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'silent', datasource: 'http/silent' }]),
      datasource('http', 'silent', `https://127.0.0.1:${port}`),
    ],
  });
  const began = performance.now();
  const got = await ask('/http/silent/x');
  assert.equal(got.status, 502, got.body);
  assert.ok(performance.now() - began < 60_000, 'ten seconds, and what a busy machine takes');
});

/** Takes connections, and says nothing. */
async function startSilent(): Promise<{ port: number; close: () => void }> {
  const server = createServer(() => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP listener');
  return { port: address.port, close: () => void server.close() };
}
