import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startDns,
  startMesh,
  startOrigin,
} from './testing.ts';

const SECRET = 'c2VjcmV0-of-the-mesh';
const SHORT = 'hello';
const AWS = {
  id: 'AKIAOFTHEMESH0000',
  secret: 'key/of+the/mesh0000',
  session: 'session-of-the-mesh',
};

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
    datasource('s3', 'data', `${at}/bucket`, {
      auth: { type: 'sigv4', region: 'eu-central-1' },
      secretRef: 'file:aws',
    }),
  ];
  const aws = `${AWS.id}:${AWS.secret}:${AWS.session}`;
  const secrets = { one: SECRET, other: SHORT, aws };
  return { origin, ...(await startMesh(t, { documents, secrets })) };
}

const CARRIED: readonly (readonly [
  where: string,
  path: string,
  headers?: Record<string, string>,
])[] = [
  ['in a query', `/http/other/x?k=${SECRET}`],
  ['in a path', `/http/other/${SECRET}`],
  ['percent-encoded', `/http/other/x?k=${SECRET.replace('-', '%2D')}`],
  [
    'percent-encoded beside what is no UTF-8',
    `/http/other/x?k=${SECRET.replaceAll('-', '%2D')}&y=%FF`,
  ],
  ['as the name of a header', '/http/other/x', { [SECRET]: '1' }],
  ['as the name of a header of HTTP/2', '/http/other/x', { [SECRET.toLowerCase()]: '1' }],
  ['in the name of a header', '/http/other/x', { [`x-${SECRET}-y`]: '1' }],
  ['in a header', '/http/other/x', { 'x-key': `a ${SECRET} b` }],
  ['in a header that is removed', '/http/other/x', { authorization: `Bearer ${SECRET}` }],
  [
    'in Basic',
    '/http/other/x',
    { authorization: `Basic ${Buffer.from(`me:${SECRET}`).toString('base64')}` },
  ],
  ['to where it belongs', `/http/one/x?k=${SECRET}`],
  ['that signs for AWS', '/http/other/x', { 'x-key': AWS.secret }],
  ['that signs for AWS, in a query', `/http/other/x?k=${encodeURIComponent(AWS.secret)}`],
  ['that is a session of AWS', '/http/other/x', { 'x-amz-security-token': AWS.session }],
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
  const paths = [
    `/http/other/x?k=${near}`,
    `/http/other/${SHORT}`,
    `/http/other/x?id=${AWS.id}`,
    '/http/other/x?k=%ff',
    `/http/other/x?k=%ff&y=${near}%2D`,
  ];
  for (const path of paths)
    assert.equal((await ask(path, { headers: { [near]: 'x' } })).status, 200);
  assert.equal(origin.seen.length, paths.length);
});

/** Any host below two names may be asked for, and tunnelled to; DNS says where none of them is. */
async function wild(t: Parameters<typeof startMesh>[0]): Promise<{ mesh: Mesh; asked: string[] }> {
  const dns = await startDns(t, {});
  const started = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        { id: 'web', scheme: 'http', hosts: ['*.wild.test'], methods: ['GET'], paths: 'any' },
        { id: 'tunnel', hosts: ['*.tunnel.test'], protocols: ['tunnel'] },
        { id: 'one', datasource: 'http/one' },
      ]),
      datasource('http', 'one', 'http://127.0.0.1:1', {
        auth: { type: 'bearer' },
        secretRef: 'file:one',
      }),
    ],
    secrets: { one: SECRET },
    config: { dns: { servers: [dns.address], timeout: '1s' } },
  });
  return { mesh: started, asked: dns.asked };
}

/** The reason that a CONNECT is refused for. */
async function connectReason({ addresses, token }: Mesh, authority: string): Promise<unknown> {
  const sent = request({
    socketPath: addresses.listen.kind === 'unix' ? addresses.listen.path : '',
    method: 'CONNECT',
    path: authority,
    headers: { host: authority, 'proxy-authorization': `Bearer ${await token()}` },
  });
  return new Promise((resolve, reject) => {
    sent.once('error', reject).once('connect', ({ headers }, socket) => {
      socket.destroy();
      resolve(headers['x-outrider-reason']);
    });
    sent.end();
  });
}

for (const [which, name, refuses] of [
  ['is the secret', SECRET, true],
  ['is the secret in lower case', SECRET.toLowerCase(), true],
  ['has the secret in a label', `a-${SECRET}-b.c`, true],
  ['has the secret over several labels', SECRET.replace('of', 'o.f'), true],
  ['control: is near it', SECRET.slice(0, -1), false],
] as const)
  test(`a host that ${which} is ${refuses ? 'never' : 'still'} looked up`, async (t) => {
    const { mesh: started, asked } = await wild(t);
    const reason = refuses ? 'secret_egress' : 'dns_failed';
    const { error } = await started.ask(`http://${name}.wild.test/`);
    assert.equal(error.reason, reason);
    assert.equal(await connectReason(started, `${name}.tunnel.test:443`), reason);
    assert.equal(asked.length > 0, !refuses, asked.join());
    assert.equal(started.records().at(-1)?.['reason'], reason);
  });
