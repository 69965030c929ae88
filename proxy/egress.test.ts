import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { networkInterfaces, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { classifyIp, parseIp } from '#policies';
import {
  BOUNDARY,
  CERTIFICATE,
  CERTIFICATE_KEY,
  datasource,
  egressPolicy,
  type Mesh,
  ROLE,
  startDns,
  startMesh,
  startOrigin,
} from './testing.ts';

/** Every name that the policy allows, and where the test's DNS says that it is. */
const NAMES = {
  'loopback.example': ['127.0.0.1'],
  'metadata.example': ['169.254.169.254'],
  'mapped.example': ['::ffff:10.0.0.1'],
  'nat64.example': ['64:ff9b::a00:1'],
  'private.example': ['10.1.2.3'],
  'mixed.example': ['203.0.113.10', '10.0.0.5'],
  'mixed6.example': ['203.0.113.10', 'fe80::1'],
  'silent.example': [],
} as const;

async function mesh(
  t: TestContext,
  extra: readonly unknown[] = [],
): Promise<{ mesh: Mesh; asked: string[] }> {
  const dns = await startDns(t, NAMES);
  const allow = [
    ...Object.keys(NAMES).map((host, at) => ({
      id: `web-${at}`,
      hosts: [host],
      scheme: 'http',
      methods: ['GET'],
      paths: ['/ok/**', '/ok'],
    })),
    { id: 'gone', hosts: ['gone.example'], scheme: 'http', methods: ['GET'], paths: 'any' },
    ...extra,
  ];
  const started = await startMesh(t, {
    documents: [ROLE, BOUNDARY, egressPolicy(allow)],
    config: { dns: { servers: [dns.address], timeout: '2s' }, connectTimeout: '2s' },
  });
  return { mesh: started, asked: dns.asked };
}

const denied: readonly (readonly [string, string, number, string])[] = [
  ['GET', 'http://evil.example/ok', 403, 'host_not_allowed'],
  ['GET', 'http://loopback.example/other', 403, 'path_not_allowed'],
  ['GET', 'http://loopback.example/ok/../other', 400, 'path_malformed'],
  ['GET', 'http://loopback.example/ok/%2e%2e/other', 400, 'path_malformed'],
  ['GET', 'http://loopback.example:8080/ok', 403, 'port_not_allowed'],
  ['DELETE', 'http://loopback.example/ok', 405, 'method_not_allowed'],
  ['GET', 'https://loopback.example/ok', 403, 'port_not_allowed'],
  ['GET', 'ftp://loopback.example/ok', 400, 'scheme_not_allowed'],
  ['GET', 'http://user@loopback.example/ok', 400, 'userinfo_forbidden'],
  ['GET', 'http://127.0.0.1/ok', 403, 'ip_forbidden_class'],
  ['GET', 'http://[::1]/ok', 403, 'ip_forbidden_class'],
  ['GET', 'http://2130706433/ok', 403, 'ip_not_allowed'],
];
for (const [method, target, status, reason] of denied)
  test(`${method} ${target} is refused as ${reason}, and its name is never looked up`, async (t) => {
    const { mesh: started, asked } = await mesh(t);
    const got = await started.ask(target, { method });
    assert.equal(got.headers['x-outrider-reason'], reason, got.body);
    assert.equal(got.status, status);
    assert.deepEqual(asked, []);
    const requests = started.records().filter(({ event }) => event === 'request');
    assert.equal(requests.length, 1);
    assert.equal(requests[0]?.['reason'], reason);
    assert.equal(requests[0]?.['verdict'], 'deny');
  });

const forbidden = ['loopback', 'metadata', 'mapped', 'nat64', 'private', 'mixed', 'mixed6'];
for (const name of forbidden)
  test(`an allowed name that leads to ${name} addresses is refused, and the answer names none`, async (t) => {
    const { mesh: started, asked } = await mesh(t);
    const origin = await startOrigin(t);
    const got = await started.ask(`http://${name}.example/ok`);
    assert.equal(got.status, 403);
    assert.equal(got.headers['x-outrider-reason'], 'resolved_ip_forbidden');
    assert.ok(!/\d+\.\d+\.\d+|fe80|64:ff9b/.test(got.body), got.body);
    assert.deepEqual(asked.toSorted(), [`A ${name}.example`, `AAAA ${name}.example`]);
    assert.equal(origin.connections(), 0);
  });

test('a name that does not exist is 502, and one that nobody answers for 504', async (t) => {
  const { mesh: started } = await mesh(t);
  const gone = await started.ask('http://gone.example/ok');
  assert.equal(gone.status, 502);
  assert.equal(gone.headers['x-outrider-reason'], 'dns_failed');
  const silent = await started.ask('http://silent.example/ok');
  assert.equal(silent.status, 504);
  assert.equal(silent.headers['x-outrider-reason'], 'dns_timeout');
});

test('a name is asked for once, however many requests there are', async (t) => {
  const { mesh: started, asked } = await mesh(t);
  await Promise.all([1, 2, 3].map(() => started.ask('http://loopback.example/ok')));
  await started.ask('http://loopback.example/ok/again');
  assert.equal(asked.length, 2);
});

test('two names for one request are refused', async (t) => {
  const { mesh: started, asked } = await mesh(t);
  const got = await started.ask('http://loopback.example/ok', {
    headers: { host: 'evil.example' },
  });
  assert.equal(got.headers['x-outrider-reason'], 'host_mismatch');
  assert.deepEqual(asked, []);
});

test('the same loopback address is reached where a Datasource says so, by name and by literal', async (t) => {
  const origin = await startOrigin(t);
  const rules = ['literal', 'named'].map((name) => ({ id: name, datasource: `http/${name}` }));
  const { ask } = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy(rules),
      datasource('http', 'literal', `http://127.0.0.1:${origin.port}`),
      datasource('http', 'named', `http://localhost:${origin.port}`),
    ],
  });
  assert.equal((await ask('/http/literal/x')).status, 200);
  assert.equal((await ask('/http/named/x')).status, 200);
  assert.equal(origin.seen.length, 2);
});

/** An address of this machine that counts as public: real host rules can then be tried against a real origin. */
const own = Object.values(networkInterfaces())
  .flat()
  .map((one) => one?.address ?? '')
  .find(
    (address) =>
      !address.includes(':') && classifyIp(parseIp(address) ?? new Uint8Array(16)) === 'public',
  );
const ownPublic = { skip: own === undefined && 'this machine has no public address of its own' };

test(
  'an allowed host is reached at the address that was checked, with its credential once',
  ownPublic,
  async (t) => {
    const origin = await startOrigin(t, (_seen, response) => void response.end('public'), {
      host: own ?? '',
      tls: true,
    });
    const caFile = join(mkdtempSync(join(tmpdir(), 'outrider-ca-')), 'ca.pem');
    t.after(() => rmSync(dirname(caFile), { recursive: true }));
    writeFileSync(caFile, CERTIFICATE);
    const dns = await startDns(t, { 'api.example': [own ?? ''] });
    const rule = {
      id: 'api',
      hosts: ['api.example'],
      ports: [origin.port],
      methods: ['GET'],
      paths: ['/v1/*'],
      credential: 'api-key',
    };
    const { ask, records } = await startMesh(t, {
      documents: [
        ROLE,
        BOUNDARY,
        egressPolicy([rule]),
        {
          kind: 'CredentialBinding',
          metadata: { name: 'api-key' },
          spec: {
            secretRef: 'env:API_KEY',
            hosts: ['api.example'],
            inject: { header: 'x-api-key', format: 'key {secret}' },
          },
        },
      ],
      config: { dns: { servers: [dns.address] }, tls: { caFile } },
      env: { API_KEY: 'hunter22hunter22' },
    });
    const url = `https://api.example:${origin.port}/v1/x?y=1`;
    const got = await ask(url, { headers: { 'x-api-key': 'theirs', authorization: 'theirs' } });
    assert.equal(got.status, 200, got.body);
    assert.equal(got.body, 'public');
    const [seen] = origin.seen;
    assert.equal(seen?.url, '/v1/x?y=1');
    assert.equal(seen?.headers['host'], `api.example:${origin.port}`);
    assert.equal(seen?.headers['x-api-key'], 'key hunter22hunter22');
    assert.equal(seen?.headers['authorization'], undefined);
    assert.equal(records().at(-1)?.['credential'], 'api-key');
    assert.equal(records().at(-1)?.['target'], `https://api.example:${origin.port}/v1/x`);
  },
);

/** Says who calls; without a certificate nobody gets that far. */
async function startMutual(t: TestContext): Promise<number> {
  const server = createServer(
    {
      cert: CERTIFICATE,
      key: CERTIFICATE_KEY,
      ca: CERTIFICATE,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (request, response) => void response.end(JSON.stringify(request.headers)),
  );
  await new Promise<void>((resolve) => server.listen(0, own ?? '', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

test(
  'F1: a client certificate is shown where its binding says and nowhere else, and nothing of it stands in the request',
  ownPublic,
  async (t) => {
    const port = await startMutual(t);
    const directory = mkdtempSync(join(tmpdir(), 'outrider-ca-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const caFile = join(directory, 'ca.pem');
    writeFileSync(caFile, CERTIFICATE);
    const dns = await startDns(t, { 'api.example': [own ?? ''] });
    const rule = (id: string) => ({
      id,
      hosts: ['api.example'],
      ports: [port],
      methods: ['GET'],
      paths: [`/${id}/**`],
    });
    const pem = `${CERTIFICATE}\n${CERTIFICATE_KEY}\n`;
    const meshWith = (certificate: string) =>
      startMesh(t, {
        documents: [
          ROLE,
          BOUNDARY,
          egressPolicy([{ ...rule('shown'), credential: 'certificate' }, rule('open')]),
          {
            kind: 'CredentialBinding',
            metadata: { name: 'certificate' },
            spec: {
              secretRef: 'file:pem',
              hosts: ['api.example'],
              paths: ['/shown/**'],
              inject: { mtls: true },
            },
          },
        ],
        config: { dns: { servers: [dns.address] }, tls: { caFile } },
        secrets: { pem: certificate },
      });
    const { ask, records } = await meshWith(pem);
    const got = await ask(`https://api.example:${port}/shown/x`, {
      headers: { authorization: 'theirs' },
    });
    assert.equal(got.status, 200, got.body);
    assert.equal(JSON.parse(got.body).authorization, undefined);
    assert.equal(records().at(-1)?.['credential'], 'certificate');
    assert.equal((await ask(`https://api.example:${port}/open/x`)).status, 502);
    const broken = await meshWith(CERTIFICATE);
    const without = await broken.ask(`https://api.example:${port}/shown/x`);
    assert.equal(without.headers['x-outrider-reason'], 'credential_unavailable');
  },
);
