import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatAddress } from '#core/address';
import { verifyAudit } from '#core/audit';
import { OutriderError } from '#core/errors';
import { accepts } from '#core/http';
import { packageRoot } from '#core/package-root';
import { startIssuer } from './issuers/testing.ts';
import {
  BOUNDARY,
  datasource,
  egressPolicy,
  type Got,
  type Mesh,
  ROLE,
  startMesh,
  startOrigin,
} from './testing.ts';

function metricsMesh(t: TestContext, endpoint: string): Promise<Mesh> {
  return startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([
        { id: 'metrics', datasource: 'prometheus/main' },
        { id: 'logs', datasource: 'loki/main' },
        { id: 'keyed', datasource: 'http/keyed' },
      ]),
      datasource('prometheus', 'main', endpoint, {
        auth: { type: 'basic', username: 'outrider' },
        secretRef: 'env:METRICS_PASSWORD',
      }),
      datasource('loki', 'main', endpoint),
      datasource('http', 'keyed', endpoint, { auth: { type: 'bearer' }, secretRef: 'file:later' }),
      datasource('http', 'hidden', endpoint),
    ],
    env: { METRICS_PASSWORD: 'hunter22' },
  });
}

const BASIC = `Basic ${Buffer.from('outrider:hunter22').toString('base64')}`;

const prometheus: readonly (readonly [string, string, number, string?])[] = [
  ['GET', '/prometheus/main/api/v1/query?query=up', 200],
  ['POST', '/prometheus/main/api/v1/query', 200],
  ['GET', '/prometheus/main/api/v1/query_range?query=up', 200],
  ['GET', '/prometheus/main/api/v1/label/job/values', 200],
  ['GET', '/prometheus/main/api/v1/labels', 200],
  ['GET', 'http://prometheus-main.outrider.internal/api/v1/query?query=up', 200],
  ['DELETE', '/prometheus/main/api/v1/series', 405, 'method_not_allowed'],
  ['POST', '/prometheus/main/api/v1/metadata', 405, 'method_not_allowed'],
  ['POST', '/prometheus/main/api/v1/admin/tsdb/delete_series', 403, 'path_not_allowed'],
  ['GET', '/prometheus/main/api/v1/admin/tsdb/snapshot', 403, 'path_not_allowed'],
  ['GET', '/prometheus/main/federate?match[]=up', 403, 'path_not_allowed'],
  ['POST', '/prometheus/main/api/v1/read', 403, 'path_not_allowed'],
  ['POST', '/prometheus/main/api/v1/write', 403, 'path_not_allowed'],
  ['GET', '/prometheus/main/api/v1/status/config', 403, 'path_not_allowed'],
  ['POST', '/prometheus/main/-/quit', 403, 'path_not_allowed'],
  ['GET', '/prometheus/main/api/v1/label/a/b/values', 403, 'path_not_allowed'],
  ['GET', '/prometheus/main/api/v1/query/', 403, 'path_not_allowed'],
  ['GET', '/prometheus/main/api/v1/query/../admin', 400, 'path_malformed'],
];
for (const [method, target, status, reason] of prometheus)
  test(`prometheus: ${method} ${target} is ${status}`, async (t) => {
    const origin = await startOrigin(t);
    const { ask } = await metricsMesh(t, `http://127.0.0.1:${origin.port}`);
    const got = await ask(target, { method });
    assert.equal(got.status, status, got.body);
    assert.equal(got.headers['x-outrider-reason'], reason);
    assert.deepEqual(
      origin.seen.map(({ headers }) => headers['authorization']),
      status === 200 ? [BASIC] : [],
    );
  });

test('the three spellings are one target', async (t) => {
  const origin = await startOrigin(t);
  const { ask, records } = await metricsMesh(t, `http://127.0.0.1:${origin.port}`);
  await ask('/prometheus/main/api/v1/labels');
  await ask('/prometheus/api/v1/labels', { headers: { 'x-datasource': 'main' } });
  await ask('http://prometheus-main.outrider.internal/api/v1/labels');
  const requests = records().filter(({ event }) => event === 'request');
  assert.deepEqual(
    requests.map(({ target, verdict }) => [target, verdict]),
    Array.from({ length: 3 }, () => ['prometheus/main/api/v1/labels', 'allow']),
  );
  assert.deepEqual(
    origin.seen.map(({ url }) => url),
    Array.from({ length: 3 }, () => '/api/v1/labels'),
  );
});

const surface: readonly (readonly [string, number, string])[] = [
  ['/', 400, 'DATASOURCE_MISSING'],
  ['/prometheus', 400, 'DATASOURCE_MISSING'],
  ['/prometheus/other/api/v1/query', 404, 'DATASOURCE_UNKNOWN'],
  ['/oracle/main/x', 404, 'DATASOURCE_UNKNOWN'],
  ['/http/hidden/x', 403, 'EGRESS_DENIED'],
  ['/http/keyed/x', 503, 'CREDENTIAL_UNAVAILABLE'],
];
for (const [target, status, code] of surface)
  test(`${target} is ${status} ${code}`, async (t) => {
    const origin = await startOrigin(t);
    const { ask } = await metricsMesh(t, `http://127.0.0.1:${origin.port}`);
    const got = await ask(target);
    assert.equal(got.status, status, got.body);
    assert.equal(got.error.code, code);
    assert.equal(got.headers['x-outrider-error'], code);
    assert.equal(origin.connections(), 0);
  });

test('the list of datasources is that of the role, without addresses', async (t) => {
  const { ask } = await metricsMesh(t, 'http://127.0.0.1:9');
  const got = await ask('/datasources');
  assert.deepEqual(JSON.parse(got.body), {
    datasources: [
      { type: 'http', name: 'keyed', description: 'the keyed datasource' },
      { type: 'loki', name: 'main', description: 'the main datasource' },
      { type: 'prometheus', name: 'main', description: 'the main datasource' },
    ],
  });
  assert.equal((await ask('/datasources', { token: '' })).status, 401);
  assert.equal((await ask('/datasources', { method: 'POST' })).status, 405);
});

async function admin(mesh: Mesh, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    get(`http://${formatAddress(mesh.addresses.admin)}${path}`, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (piece: string) => (body += piece));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    }).on('error', reject);
  });
}

test('/readyz says which policy is in force and which secrets are missing, and is ready when they are there', async (t) => {
  const mesh = await metricsMesh(t, 'http://127.0.0.1:9');
  const { status, body } = await admin(mesh, '/readyz');
  assert.equal(status, 503);
  const { policySince, ...said } = JSON.parse(body);
  assert.ok(!Number.isNaN(Date.parse(policySince)));
  assert.deepEqual(said, {
    status: 'not ready',
    problems: { secrets: 'Datasource http/keyed (file:later): cannot be read' },
    policyDigest: mesh.digest,
    policyCommit: null,
    policySerial: null,
    documents: 7,
    unresolvedSecrets: ['Datasource http/keyed (file:later)'],
  });
  writeFileSync(join(mesh.directory, 'state', 'secrets', 'later'), 'here');
  const after = await admin(mesh, '/readyz');
  assert.equal(after.status, 200);
  assert.deepEqual(JSON.parse(after.body).unresolvedSecrets, []);
});

test('F9: JWKS gone -> ready 503, also where they were away from the start; back -> 200, without any token', async (t) => {
  const issuer = await startIssuer(t);
  issuer.behave('down');
  const mesh = await startMesh(t, {
    documents: [ROLE, BOUNDARY, egressPolicy([])],
    config: { issuers: [{ issuer: issuer.url, audience: 'proxy', jwksCooldown: '100ms' }] },
  });
  const said = async () => {
    const { status, body } = await admin(mesh, '/readyz');
    return { status, problem: JSON.parse(body).problems?.issuers };
  };
  const becomes = async (wanted: number) => {
    for (let tries = 0; tries < 1_000 && (await said()).status !== wanted; tries++) await sleep(20);
    return said();
  };
  assert.match((await becomes(503)).problem, /^http:.*: its keys cannot be fetched$/);
  issuer.behave('well');
  assert.deepEqual(await becomes(200), { status: 200, problem: undefined });
  issuer.behave('down');
  assert.match((await becomes(503)).problem, /those known are good for 3\d\d\d s more$/);
  issuer.behave('well');
  assert.equal((await becomes(200)).status, 200);
});

test('F9: secrets that cannot be read are told; where they, or upstreams, are required, /readyz says 503 until they are there', async (t) => {
  const origin = await startOrigin(t);
  const documents = [
    ROLE,
    BOUNDARY,
    egressPolicy([
      { id: 'a', datasource: 'http/there' },
      { id: 'b', datasource: 'http/gone' },
    ]),
    datasource('http', 'there', `http://127.0.0.1:${origin.port}`, {
      auth: { type: 'bearer' },
      secretRef: 'file:later',
    }),
    datasource('http', 'gone', 'http://127.0.0.1:9'),
  ];
  const told = await startMesh(t, { documents, config: { ready: { require: [] } } });
  const read = async (mesh: Mesh) => {
    const { status, body } = await admin(mesh, '/readyz');
    return { status, ...JSON.parse(body) };
  };
  const until = async (condition: () => Promise<boolean>) => {
    for (let tries = 0; tries < 200 && !(await condition()); tries++) await sleep(20);
  };
  const { status, unresolvedSecrets, unreachableDatasources } = await read(told);
  assert.deepEqual([status, unresolvedSecrets.length], ['ready', 1]);
  assert.equal(unreachableDatasources, undefined);
  assert.equal(origin.connections(), 0, 'nothing that was not asked for');

  const required = await startMesh(t, {
    documents,
    config: { ready: { require: ['secrets', 'upstreams'] } },
  });
  await until(async () => 'upstreams' in ((await read(required)).problems ?? {}));
  const { problems } = await read(required);
  assert.match(problems.secrets, /http\/there/);
  assert.match(problems.upstreams, /http\/gone/);
  assert.deepEqual((await read(required)).unreachableDatasources, ['http/gone']);
  assert.ok(!problems.upstreams.includes('127.0.0.1'), 'no address');
  assert.equal((await admin(required, '/readyz')).status, 503);
  required.writePolicies(
    documents
      .filter(({ metadata }) => metadata.name !== 'gone')
      .map((one) =>
        one.kind === 'EgressPolicy' ? egressPolicy([{ id: 'a', datasource: 'http/there' }]) : one,
      ),
  );
  writeFileSync(join(required.directory, 'state', 'secrets', 'later'), 'here');
  await until(async () => !('secrets' in ((await read(required)).problems ?? {})));
  assert.ok(!('secrets' in ((await read(required)).problems ?? {})));
});

test('a proxy that shares its limits with no other has no metric of whether it does', async (t) => {
  const shown = async (config: Record<string, unknown>) => {
    const mesh = await startMesh(t, { documents: [ROLE, BOUNDARY, egressPolicy([])], config });
    return (await admin(mesh, '/metrics')).body.includes('outrider_limit_store_up');
  };
  assert.equal(await shown({}), false);
  assert.equal(await shown({ limits: { redis: 'redis://127.0.0.1:9' } }), true, 'control');
});

test('/metrics counts verdicts, reasons, tokens and the head of the audit', async (t) => {
  const origin = await startOrigin(t);
  const mesh = await metricsMesh(t, `http://127.0.0.1:${origin.port}`);
  await mesh.ask('/prometheus/main/api/v1/labels');
  await mesh.ask('/prometheus/main/api/v1/labels');
  await mesh.ask('http://evil.example/');
  await mesh.ask('/prometheus/main/api/v1/labels', { token: 'x.y.z' });
  const { body } = await admin(mesh, '/metrics');
  for (const line of [
    'outrider_requests_total{verdict="allow",part="proxy"} 2',
    'outrider_requests_total{verdict="deny",part="proxy"} 2',
    'outrider_denials_total{reason="host_not_allowed",part="proxy"} 1',
    'outrider_token_verifications_total{result="ok",part="proxy"} 1',
    'outrider_token_verifications_total{result="cached",part="proxy"} 2',
    'outrider_token_verifications_total{result="refused",part="proxy"} 1',
    'outrider_audit_head_seq{part="proxy"} 5',
    'outrider_upstream_duration_seconds_count{part="proxy"} 2',
  ])
    assert.ok(body.includes(line), line);
  assert.ok(!body.includes('hunter22'));
});

test('the socket can be opened by its owner only', async (t) => {
  const { addresses } = await metricsMesh(t, 'http://127.0.0.1:9');
  assert.ok(addresses.listen.kind === 'unix');
  assert.equal(statSync(addresses.listen.path).mode & 0o777, 0o600);
});

test('a listener that other machines could reach is refused; loopback is not', async (t) => {
  const documents = [ROLE, BOUNDARY];
  for (const config of [{ tcp: '0.0.0.0:0' }, { listen: '192.168.1.1:1' }])
    await assert.rejects(
      startMesh(t, { documents, config }),
      (error) => error instanceof OutriderError && error.code === 'CONFIG_INVALID',
    );
  const { addresses } = await startMesh(t, { documents, config: { tcp: '127.0.0.1:0' } });
  assert.ok(addresses.tcp?.kind === 'tcp' && addresses.tcp.port > 0);
});

const malformed: readonly (readonly [string, string, number, string])[] = [
  [
    'a length and chunks',
    'POST /http/x/y HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    400,
    'framing',
  ],
  [
    'two lengths',
    'POST /http/x/y HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd',
    400,
    'framing',
  ],
  ['no HTTP at all', '\x16\x03\x01\x02\x00garbage\r\n\r\n', 400, 'framing'],
  [
    'headers above the limit',
    `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`,
    431,
    'header_too_large',
  ],
];
for (const [what, bytes, status, reason] of malformed)
  test(`${what}: ${status}, one record, and the proxy lives`, async (t) => {
    const mesh = await metricsMesh(t, 'http://127.0.0.1:9');
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect(
        mesh.addresses.listen.kind === 'unix' ? mesh.addresses.listen.path : '',
      );
      let text = '';
      socket.on('data', (piece) => (text += String(piece)));
      socket.on('close', () => resolve(text));
      socket.on('error', reject);
      socket.write(bytes);
    });
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `));
    const requests = mesh.records().filter(({ event }) => event === 'request');
    assert.equal(requests.length, 1);
    assert.equal(requests[0]?.['verdict'], 'deny');
    if (reason !== 'framing') assert.equal(requests[0]?.['reason'], reason);
    assert.equal((await mesh.ask('/datasources')).status, 200);
  });

const odd: readonly (readonly [string, string, number, string])[] = [
  ['no Host', '', 400, 'host_missing'],
  ['two Hosts', 'Host: a\r\nHost: a\r\n', 400, 'host_duplicate'],
  ['an expectation that nobody knows', 'Host: a\r\nExpect: tea\r\n', 200, ''],
];
for (const [what, headers, status, reason] of odd)
  test(`a request with ${what} is ${status}, with one record`, async (t) => {
    const origin = await startOrigin(t);
    const mesh = await metricsMesh(t, `http://127.0.0.1:${origin.port}`);
    const token = await mesh.token();
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(
        mesh.addresses.listen.kind === 'unix' ? mesh.addresses.listen.path : '',
      );
      let text = '';
      socket.on('data', (piece) => (text += String(piece)));
      socket.on('close', () => resolve(text));
      socket.write(
        `GET /prometheus/main/api/v1/labels HTTP/1.1\r\n${headers}Proxy-Authorization: Bearer ${token}\r\nConnection: close\r\n\r\n`,
      );
    });
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `));
    const requests = mesh.records().filter(({ event }) => event === 'request');
    assert.equal(requests.length, 1);
    assert.equal(requests[0]?.['reason'] ?? '', reason);
  });

test('a body that stops being HTTP in the middle ends its connection with one record', async (t) => {
  const origin = await startOrigin(t);
  const mesh = await metricsMesh(t, `http://127.0.0.1:${origin.port}`);
  const head = `POST /prometheus/main/api/v1/query HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Bearer ${await mesh.token()}\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(mesh.addresses.listen.kind === 'unix' ? mesh.addresses.listen.path : '');
    let text = '';
    socket.on('data', (piece) => (text += String(piece)));
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
    socket.write(`${head}3\r\nabc\r\n`);
    setTimeout(() => socket.write('zzz\r\n'), 100);
  });
  assert.equal(answer, '');
  for (let tries = 0; mesh.records().length < 2 && tries < 100; tries++) await sleep(20);
  const requests = mesh.records().filter(({ event }) => event === 'request');
  assert.deepEqual(
    requests.map(({ verdict, code }) => [verdict, code]),
    [['error', 'CANCELLED']],
  );
  assert.equal((await mesh.ask('/datasources')).status, 200);
});

test('a caller that connects and leaves without a word leaves no record', async (t) => {
  const mesh = await metricsMesh(t, 'http://127.0.0.1:9');
  await new Promise((resolve) => {
    const path = mesh.addresses.listen.kind === 'unix' ? mesh.addresses.listen.path : '';
    const socket = connect(path, () => socket.destroy());
    socket.on('close', resolve);
  });
  await mesh.ask('/datasources');
  const requests = mesh.records().filter(({ event }) => event === 'request');
  assert.deepEqual(
    requests.map(({ target }) => target),
    ['/datasources'],
  );
});

/** `outrider proxy` as a process of its own. */
function run(args: readonly string[], env: Record<string, string>, limits = '') {
  const script = `import { main } from ${JSON.stringify(join(packageRoot, 'proxy/main.ts'))}; process.exitCode = await main(process.argv.slice(1), process.env);`;
  const node = ['--conditions=outrider-source', '--input-type=module', '-e', script, '--', ...args];
  const child = spawn('/bin/sh', ['-c', `${limits} exec "$0" "$@"`, process.execPath, ...node], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', (piece) => (out += String(piece)));
  child.stderr.on('data', (piece) => (err += String(piece)));
  const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, out, err }));
  });
  return { child, ended };
}

test('the process starts, says nothing on stdout, and ends in order at SIGTERM', async (t) => {
  const mesh = await metricsMesh(t, 'http://127.0.0.1:9');
  await mesh.proxy.stop();
  const socket = join(mesh.directory, 'run', 'proxy.sock');
  const { child, ended } = run(
    ['--policies', join(mesh.directory, 'policies'), '--admin', '127.0.0.1:0'],
    {
      OUTRIDER_RUNTIME_DIR: join(mesh.directory, 'run'),
      OUTRIDER_STATE_DIR: join(mesh.directory, 'state'),
    },
  );
  t.after(() => child.kill('SIGKILL'));
  const at = { kind: 'unix', path: socket } as const;
  for (let tries = 0; !(await accepts(at)) && tries < 500; tries++) await sleep(20);
  child.kill('SIGTERM');
  const { code, out } = await ended;
  assert.equal(code, 0);
  assert.equal(out, '');
  assert.equal(existsSync(socket), false);
  const events = mesh.records().map(({ event }) => event);
  assert.deepEqual(events.slice(-4), ['start', 'policy', 'end', 'checkpoint']);
});

test('a process that cannot start says why on one line and exits with 1', async (t) => {
  const mesh = await metricsMesh(t, 'http://127.0.0.1:9');
  const env = {
    OUTRIDER_RUNTIME_DIR: join(mesh.directory, 'run'),
    OUTRIDER_STATE_DIR: join(mesh.directory, 'other-state'),
  };
  const policies = join(mesh.directory, 'policies');
  const cases: [string[], RegExp][] = [
    [['--bogus', '1', '--policies', policies], /unknown option --bogus/],
    [[], /proxy.policies is required/],
    [['--policies', join(mesh.directory, 'missing')], /missing/],
    [['--policies', policies, '--admin', '127.0.0.1:0'], /is in use by another process/],
  ];
  const starts = cases.map(async ([args, message]) => {
    const { code, out, err } = await run(args, env).ended;
    assert.equal(code, 1, err);
    assert.equal(out, '');
    const plain = err.split('\n').filter((line) => !line.startsWith('{'));
    assert.match(plain.join('\n'), message);
  });
  await Promise.all(starts);
});

test('when the disk takes no more audit, nothing goes out, and no record is torn', async (t) => {
  const origin = await startOrigin(t);
  const mesh = await metricsMesh(t, `http://127.0.0.1:${origin.port}`);
  await mesh.proxy.stop();
  const state = join(mesh.directory, 'small-state');
  // Files of this process end at 4 KiB (8 blocks of 512 bytes), as on a full disk: the write that goes beyond fails.
  const { child, ended } = run(
    ['--policies', join(mesh.directory, 'policies'), '--admin', '127.0.0.1:0'],
    {
      OUTRIDER_RUNTIME_DIR: join(mesh.directory, 'run'),
      OUTRIDER_STATE_DIR: state,
      METRICS_PASSWORD: 'hunter22',
    },
    "trap '' XFSZ; ulimit -f 8;",
  );
  t.after(() => child.kill('SIGKILL'));
  const socket = join(mesh.directory, 'run', 'proxy.sock');
  // The file is there a moment before anybody listens on it.
  const listening = () => accepts({ kind: 'unix', path: socket });
  for (let tries = 0; !(await listening()) && tries < 500; tries++) await sleep(20);
  const target = '/prometheus/main/api/v1/labels';
  assert.equal((await mesh.ask(target)).status, 200);
  let refused: Got | undefined;
  for (let tries = 0; !refused && tries < 50; tries++) {
    const got = await mesh.ask(target).catch(() => undefined); // the one that cannot be recorded is cut
    if (got && got.status !== 200) refused = got;
  }
  assert.equal(refused?.status, 503);
  assert.equal(refused?.error.code, 'AUDIT_UNAVAILABLE');
  const before = origin.seen.length;
  for (let round = 0; round < 3; round++) assert.equal((await mesh.ask(target)).status, 503);
  assert.equal(origin.seen.length, before);
  child.kill('SIGTERM');
  await ended;
  const lines = readFileSync(join(state, 'audit', 'proxy.jsonl'), 'utf8')
    .trimEnd()
    .split('\n');
  const { findings, records } = await verifyAudit(lines);
  assert.deepEqual(findings, []);
  assert.ok(records >= before, 'every request that went out, but the last, is there');
});
