import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BOUNDARY, datasource, egressPolicy, ROLE, startMesh, startOrigin } from './testing.ts';

const SECRET = 'c2VjcmV0-of-the-mesh';
const SHORT = 'hello';

async function mesh(t: Parameters<typeof startMesh>[0]) {
  const origin = await startOrigin(t, (_request, response) => void response.end('hello'));
  const at = `http://127.0.0.1:${origin.port}`;
  const documents = [
    ROLE,
    BOUNDARY,
    egressPolicy([
      { id: 'one', datasource: 'http/one' },
      { id: 'other', datasource: 'http/other' },
    ]),
    datasource('http', 'one', at, { auth: { type: 'bearer' }, secretRef: 'file:one' }),
    datasource('http', 'other', at, { auth: { type: 'bearer' }, secretRef: 'file:other' }),
  ];
  return { origin, ...(await startMesh(t, { documents, secrets: { one: SECRET, other: SHORT } })) };
}

const CARRIED: readonly (readonly [
  where: string,
  path: string,
  headers?: Record<string, string>,
])[] = [
  ['in a query', `/http/other/x?k=${SECRET}`],
  ['in a path', `/http/other/${SECRET}`],
  ['percent-encoded', `/http/other/x?k=${SECRET.replace('-', '%2D')}`],
  ['in a header', '/http/other/x', { 'x-key': `a ${SECRET} b` }],
  ['in a header that is removed', '/http/other/x', { authorization: `Bearer ${SECRET}` }],
  [
    'in Basic',
    '/http/other/x',
    { authorization: `Basic ${Buffer.from(`me:${SECRET}`).toString('base64')}` },
  ],
  ['to where it belongs', `/http/one/x?k=${SECRET}`],
];

for (const [where, path, headers = {}] of CARRIED)
  test(`a secret of the mesh ${where} goes nowhere`, async (t) => {
    const { ask, origin, records } = await mesh(t);
    const { status, error } = await ask(path, { headers });
    assert.deepEqual([status, error.reason], [403, 'secret_egress']);
    assert.equal(origin.seen.length, 0);
    assert.equal(records().at(-1)?.['reason'], 'secret_egress');
  });

test('what only looks like one goes, and so does what is too short to be one', async (t) => {
  const { ask, origin } = await mesh(t);
  const near = SECRET.slice(0, -1);
  for (const path of [`/http/other/x?k=${near}`, `/http/other/${SHORT}`, '/http/other/x?k=%ff'])
    assert.equal((await ask(path)).status, 200);
  assert.equal(origin.seen.length, 3);
});
