import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  startMesh,
  startOrigin,
  type TestDocument,
} from './testing.ts';

const IDP = 'https://idp.example';

const role = (name: string, group: string): TestDocument => ({
  kind: 'Role',
  metadata: { name },
  spec: { members: [{ issuer: IDP, group }], sandbox: {} },
});

/** Two organisations, with a datasource each and one for both. */
async function mesh(t: TestContext) {
  const origin = await startOrigin(t);
  const endpoint = `http://127.0.0.1:${origin.port}`;
  const rules = (own: string) => [
    { id: `${own}-own`, datasource: `prometheus/${own}` },
    { id: `${own}-shared`, datasource: 'http/shared' },
  ];
  const documents = [
    role('org-a', 'a'),
    role('org-b', 'b'),
    BOUNDARY,
    egressPolicy(rules('a'), 'org-a'),
    egressPolicy(rules('b'), 'org-b'),
    ...['a', 'b'].map((name) =>
      datasource('prometheus', name, endpoint, {
        auth: { type: 'basic', username: 'u' },
        secretRef: 'env:PASSWORD',
      }),
    ),
    datasource('http', 'shared', endpoint),
    datasource('http', 'nobodys', endpoint),
  ];
  return {
    origin,
    documents,
    mesh: await startMesh(t, { documents, env: { PASSWORD: 'hunter22' } }),
  };
}

const tokenOf = (started: Mesh, group: string) =>
  started.token({
    assertionKey: started.gatewayKey,
    principal: { issuer: IDP, subject: `user-${group}`, tenant: '', groups: [group], claims: {} },
    role: `org-${group}`,
  });

const namesOf = (body: string) =>
  JSON.parse(body).datasources.map(
    ({ type, name }: { type: string; name: string }) => `${type}/${name}`,
  );

test('F8 B8: each user sees the datasources of the own role with type, name and description, and nothing of where they are', async (t) => {
  const { origin, mesh: started } = await mesh(t);
  for (const [group, other] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    const got = await started.ask('/datasources', { token: await tokenOf(started, group) });
    assert.equal(got.status, 200);
    assert.deepEqual(JSON.parse(got.body), {
      datasources: [
        { type: 'http', name: 'shared', description: 'the shared datasource' },
        { type: 'prometheus', name: group, description: `the ${group} datasource` },
      ],
    });
    for (const hidden of [
      '127.0.0.1',
      String(origin.port),
      'hunter22',
      'PASSWORD',
      `prometheus/${other}`,
    ])
      assert.ok(!got.body.includes(hidden), hidden);
    assert.equal(got.headers['cache-control'], 'no-store');
    const record = started.records().findLast(({ event }) => event === 'request');
    assert.equal(record?.['target'], '/datasources');
    assert.equal(record?.['subject'], `user-${group}`);
  }
  assert.equal(origin.seen.length, 0);
});

test('F8: nobody sees anything without a token, or by another method', async (t) => {
  const { mesh: started } = await mesh(t);
  for (const token of ['', 'nonsense', await started.token({ role: 'org-a' })])
    assert.notEqual((await started.ask('/datasources', { token })).status, 200);
  const token = await tokenOf(started, 'a');
  assert.equal((await started.ask('/datasources', { token, method: 'POST' })).status, 405);
  assert.equal((await started.ask('/datasources', { token })).status, 200);
});

test("B8: a user reaches the own role's datasources; a direct request for another's is 403 and recorded, one that there is not 404", async (t) => {
  const { origin, mesh: started } = await mesh(t);
  const token = await tokenOf(started, 'a');
  const ask = async (name: string) =>
    (await started.ask(`/${name}/api/v1/labels`, { token })).status;
  assert.equal(await ask('prometheus/a'), 200);
  const asked = origin.seen.length;
  assert.equal(await ask('prometheus/b'), 403);
  const record = started.records().findLast(({ event }) => event === 'request');
  assert.equal(record?.['verdict'], 'deny');
  assert.equal(record?.['reason'], 'datasource_denied');
  assert.equal(record?.['datasource'], 'prometheus/b');
  assert.equal(record?.['subject'], 'user-a');
  assert.equal(await ask('http/nobodys'), 403);
  assert.equal(await ask('prometheus/c'), 404);
  assert.equal(origin.seen.length, asked);
  assert.equal(await ask('http/shared'), 200);
});

test('F8: a change of policy is in the list without a restart', async (t) => {
  const { documents, mesh: started } = await mesh(t);
  const token = await tokenOf(started, 'a');
  const names = async () => namesOf((await started.ask('/datasources', { token })).body);
  assert.deepEqual(await names(), ['http/shared', 'prometheus/a']);
  started.writePolicies(
    documents.map((one) =>
      one.metadata.name === 'org-a-egress'
        ? egressPolicy([{ id: 'shared', datasource: 'http/shared' }], 'org-a')
        : one,
    ),
  );
  const changed = performance.now();
  while ((await names()).length !== 1) assert.ok(performance.now() - changed < 60_000);
  assert.deepEqual(await names(), ['http/shared']);
});
