import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  ROLE,
  startMesh,
  startOrigin,
  type TestDocument,
} from './testing.ts';

// The execution token says whether a program runs or its dependencies are being installed; the proxy decides by its own documents.

const INSTALLING: TestDocument = {
  ...ROLE,
  spec: {
    members: [{ issuer: 'outrider:local' }],
    sandbox: { dependencies: { managers: ['pip'] } },
  },
};
const PLAIN: TestDocument = { ...ROLE, metadata: { name: 'plain' } };
const policyOf = (name: string, phase: 'run' | 'install'): TestDocument => {
  const { kind, spec } = egressPolicy([{ id: name, datasource: `http/${name}` }]);
  const subjects = [{ role: 'analyst' }];
  return { kind, metadata: { name }, spec: { ...Object(spec), subjects, phase } };
};

const facts: readonly (readonly [string, 'api' | 'index', 'install' | undefined, number])[] = [
  ['a program reaches what is for programs', 'api', undefined, 200],
  ['a program does not reach what is for installing', 'index', undefined, 403],
  ['an install reaches what is for installing', 'index', 'install', 200],
  ['an install does not reach what is for programs', 'api', 'install', 403],
];
for (const [what, name, phase, status] of facts)
  test(`${what}, also when the other token is known already`, async (t) => {
    const origin = await startOrigin(t);
    const endpoint = `http://127.0.0.1:${origin.port}`;
    const mesh = await startMesh(t, {
      documents: [
        INSTALLING,
        BOUNDARY,
        policyOf('api', 'run'),
        policyOf('index', 'install'),
        datasource('http', 'api', endpoint),
        datasource('http', 'index', endpoint),
      ],
    });
    const other = await mesh.token({ phase: phase === undefined ? 'install' : undefined });
    await mesh.ask(`/http/${name}/v1`, { token: other });
    const before = origin.seen.length;
    const got = await mesh.ask(`/http/${name}/v1`, { token: await mesh.token({ phase }) });
    assert.equal(got.status, status, got.body);
    assert.equal(origin.seen.length - before, status === 200 ? 1 : 0);
  });

test('a token of a role that may install nothing is refused in that phase alone', async (t) => {
  const origin = await startOrigin(t);
  const mesh = await startMesh(t, {
    documents: [
      PLAIN,
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api' }], 'plain'),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  const token = await mesh.token({ role: 'plain' });
  assert.equal((await mesh.ask('/http/api/v1', { token })).status, 200);
  const installing = await mesh.token({ role: 'plain', phase: 'install' });
  const got = await mesh.ask('/http/api/v1', { token: installing });
  assert.equal(got.status, 403);
  assert.equal(got.error.code, 'ROLE_DENIED');
  assert.equal(origin.seen.length, 1);
});
