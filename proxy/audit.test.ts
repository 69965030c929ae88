import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AuditChain, type AuditFields, type AuditHead, verifyAudit } from '#core/audit';
import { loadConfig } from '#core/config';
import { OutriderError } from '#core/errors';
import { readTrustedIssuers } from '#core/keys';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { createAudit } from './audit.ts';
import { openAuditSink } from './audit-sink.ts';
import { proxySpec } from './config.ts';
import { BOUNDARY, datasource, egressPolicy, ROLE, startMesh, startOrigin } from './testing.ts';

async function mesh(t: TestContext, config: Readonly<Record<string, unknown>> = {}) {
  const origin = await startOrigin(t);
  const started = await startMesh(t, {
    config,
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api' }]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ],
  });
  const audit = join(started.directory, 'state', 'audit');
  return { ...started, audit, sidecarFile: join(audit, 'sidecar.jsonl') };
}

test('every request leaves one record, and the chain holds with its signature and its published head', async (t) => {
  const { ask, proxy, audit, directory } = await mesh(t);
  await ask('/http/api/1');
  await ask('/http/api/2?secret=no');
  await ask('http://evil.example/');
  await proxy.stop();
  const lines = readFileSync(join(audit, 'proxy.jsonl'), 'utf8').trimEnd().split('\n');
  const head: AuditHead = JSON.parse(readFileSync(join(audit, 'proxy.head.json'), 'utf8'));
  const keys = join(directory, 'state', 'audit-keys', 'proxy.audit.pub.json');
  const trusted = readTrustedIssuers(keys);
  const whole = await verifyAudit(lines, { trusted, heads: [head] });
  assert.deepEqual(whole.findings, []);
  assert.equal(whole.records, 7);
  assert.equal(whole.checkpoints, 1);
  const flipped = lines.with(2, (lines[2] ?? '').replace('"allow"', '"allaw"'));
  for (const damaged of [flipped, lines.toSpliced(2, 1), lines.slice(0, 3)])
    assert.ok((await verifyAudit(damaged, { trusted, heads: [head] })).findings.length > 0);
});

/** Says this to the proxy, and what is said after the answer; resolves when the connection is over. */
async function converse(
  path: string,
  first: string,
  then: (socket: Socket) => void,
): Promise<void> {
  const socket = connect({ path });
  socket.on('error', () => {});
  socket.write(first);
  await once(socket, 'data');
  then(socket);
  socket.resume();
  await once(socket, 'close');
}

test('the rest of a body that was answered before it came is no request, and has no record', async (t) => {
  const early = createServer((_request, response) => response.writeHead(413).end('too large'));
  await once(early.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    early.closeAllConnections();
    early.close();
  });
  const address = early.address();
  assert.ok(typeof address === 'object' && address !== null);
  const { token, addresses, records } = await startMesh(t, {
    documents: [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api' }]),
      datasource('http', 'api', `http://127.0.0.1:${address.port}`),
    ],
  });
  assert.ok(addresses.listen.kind === 'unix');
  const { path } = addresses.listen;
  const requests = () => records().filter(({ event }) => event === 'request');
  const head = `POST /http/api/x HTTP/1.1\r\nHost: sidecar\r\nProxy-Authorization: Bearer ${await token()}\r\n`;
  const sized = `${head}Content-Length: 1000\r\n\r\nhello`;
  await converse(path, sized, (socket) => socket.end());
  const chunked = `${head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`;
  await converse(path, chunked, (socket) => socket.write('GET /http/api/y HTTP/1.1\r\n\r\n'));
  assert.deepEqual(
    requests().map(({ verdict, status }) => [verdict, status]),
    [
      ['allow', 413],
      ['allow', 413],
    ],
  );
  // Control: what is nobody's rest is a request that could not be read.
  await converse(path, 'GET /http/api/z\r\n\r\n', (socket) => socket.end());
  assert.deepEqual(
    requests().map(({ verdict }) => verdict),
    ['allow', 'allow', 'deny'],
  );
});

test('a record says who, what, by which rule and with which result', async (t) => {
  const { ask, records, digest } = await mesh(t);
  await ask('/http/api/v1/x?q=1', {
    method: 'POST',
    body: 'abc',
    headers: { 'x-request-id': 'egress-1' },
  });
  const { prev, writer, time, durationMs, upstreamMs, tokenId, ...rest } = records().at(-1) ?? {};
  assert.ok([prev, writer, time, tokenId].every((text) => typeof text === 'string' && text !== ''));
  assert.ok(Number(durationMs) >= Number(upstreamMs) && Number(upstreamMs) > 0);
  assert.deepEqual(rest, {
    v: 1,
    part: 'proxy',
    seq: 2,
    event: 'request',
    egressId: 'egress-1',
    requestId: 'req-test',
    ingress: 'alias',
    method: 'POST',
    issuer: 'outrider:local',
    subject: 'local',
    tenant: 'local',
    role: 'analyst',
    sandboxId: 'sbx-test',
    execId: 'exec-test',
    policyDigest: digest,
    target: 'http/api/v1/x',
    datasource: 'http/api',
    query: 'q=1',
    rule: 'api',
    policy: 'analyst-egress',
    credential: 'datasource:http/api',
    verdict: 'allow',
    status: 200,
    bytesIn: 3,
    bytesOut: 5,
  });
});

test('L4: the secrets of a caller are recorded without their values, whatever they are called and however they are encoded', async (t) => {
  const { ask, records } = await mesh(t);
  const secrets = 'password=hunter2&api%5Fkey=sk-abc&authorization=Bearer%20abcdefgh12345678';
  await ask(`/http/api/v1/x?q=1&${secrets}&q=Bearer%20abcdefgh12345678`);
  assert.equal(
    records().at(-1)?.['query'],
    'q=1&password=[REDACTED]&api%5Fkey=[REDACTED]&authorization=[REDACTED]&q=[REDACTED]',
  );
});

/** A datasource whose queries are read in address and body. */
async function queried(t: TestContext, role: Readonly<Record<string, unknown>> = {}) {
  const origin = await startOrigin(t, (_seen, response) => response.end('{}'));
  const spec = { ...Object(ROLE.spec), ...role };
  return startMesh(t, {
    documents: [
      { ...ROLE, spec },
      BOUNDARY,
      egressPolicy([{ id: 'metrics', datasource: 'prometheus/main', labels: { job: 'a' } }]),
      datasource('prometheus', 'main', `http://127.0.0.1:${origin.port}`),
    ],
    config: { limits: { datasource: '4/h burst 4' } },
  });
}
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const LONG = `query=${'up{job="a"} or '.repeat(100)}up{job="a"}`;

test('F7: allowed, denied and limited requests each leave one record, with path, datasource, user, status, duration and the first 500 characters of the query, in address or body', async (t) => {
  const { ask, records } = await queried(t);
  const api = '/prometheus/main/api/v1/query';
  assert.equal((await ask(`${api}?query=up%7Bjob=%22a%22%7D`)).status, 200);
  assert.equal((await ask(api, { method: 'POST', headers: FORM, body: LONG })).status, 200);
  assert.equal((await ask('/prometheus/main/api/v1/admin?x=1')).status, 403);
  assert.equal((await ask(api, { method: 'POST', headers: FORM, body: 'query=up' })).status, 403);
  assert.equal((await ask(`${api}?query=down`)).status, 429);
  const requests = records().filter(({ event }) => event === 'request');
  assert.deepEqual(
    requests.map(({ verdict, method, status, query }) => [verdict, method, status, query]),
    [
      ['allow', 'GET', 200, 'query=up%7Bjob=%22a%22%7D'],
      ['allow', 'POST', 200, LONG.slice(0, 500)],
      ['deny', 'GET', 403, 'x=1'],
      ['deny', 'POST', 403, 'query=up'],
      ['limit', 'GET', 429, 'query=down'],
    ],
  );
  for (const { datasource: source, subject, target, durationMs } of requests) {
    assert.deepEqual([source, subject], ['prometheus/main', 'local']);
    assert.match(String(target), /^prometheus\/main\/api\/v1\/(query|admin)$/);
    assert.ok(Number(durationMs) > 0);
  }
});

test('no query is kept of a role that says so', async (t) => {
  const { ask, records } = await queried(t, { audit: { queries: false } });
  const api = '/prometheus/main/api/v1/query';
  await ask(`${api}?query=up`);
  await ask(api, { method: 'POST', headers: FORM, body: LONG });
  await ask(`${api}?query=`);
  const requests = records().filter(({ event }) => event === 'request');
  assert.equal(requests.length, 3);
  for (const record of requests) assert.ok(!('query' in record));
});

const SANDBOX = 'sbx-test';
const NDJSON = { 'content-type': 'application/x-ndjson' };

/** The lines of a sidecar's chain: its start, then requests. */
function sidecarLines(count: number, sandboxId = SANDBOX, part = 'sidecar'): string[] {
  const records = Array.from({ length: count - 1 }, (_, at) => ({ target: `t${at + 1}` }));
  return chainOf(
    `sc-${sandboxId}`,
    part,
    records.map((one) => ({ event: 'request', ...one })),
  );
}

function chainOf(writer: string, part: string, records: readonly AuditFields[]): string[] {
  const lines: string[] = [];
  const chain = new AuditChain(part, { append: (line) => void lines.push(line) }, { writer });
  for (const record of records) chain.append(record);
  return lines;
}

function bodyOf(lines: readonly (string | undefined)[]): string {
  return lines.map((line) => `${line}\n`).join('');
}

const OWNER = 'o'.repeat(64);

/** What a file has of sidecars, without what the proxy says of them in between. */
function deliveredTo(file: string): string {
  const lines = readFileSync(file, 'utf8').split(/(?<=\n)/);
  return lines.filter((line) => line.startsWith('{"v":1,"part":"sidecar"')).join('');
}

test('deliveries are stored unchanged, once each and in order, and each gets a receipt', async (t) => {
  const { ask, records, audit, sidecarFile, proxy } = await mesh(t);
  const lines = sidecarLines(5);
  const post = (some: readonly string[]) =>
    ask('/.outrider/audit', { method: 'POST', headers: NDJSON, body: bodyOf(some) });
  const first = await post(lines.slice(0, 2));
  assert.equal(first.status, 200, first.body);
  assert.equal(JSON.parse(first.body).acknowledged.seq, 1);
  assert.equal((await post(lines.slice(0, 3))).status, 200, 'an overlap is no fault');
  const gap = await post(lines.slice(4));
  assert.equal(gap.status, 409);
  assert.equal(gap.error.code, 'AUDIT_GAP');
  assert.equal(JSON.parse(gap.body).acknowledged.seq, 2);
  const rest = await post(lines.slice(3));
  assert.equal(JSON.parse(rest.body).acknowledged.seq, 4);
  assert.equal(JSON.parse((await post(lines)).body).acknowledged.seq, 4, 'all of it again');
  assert.equal(deliveredTo(sidecarFile), lines.map((line) => `${line}\n`).join(''));

  const receipts = records().filter(({ event }) => event === 'receipt');
  assert.deepEqual(
    receipts.map(({ head }) => (head as AuditHead).seq),
    [1, 2, 4, 4],
  );
  await proxy.stop();
  const both = ['proxy.jsonl', 'sidecar.jsonl'].flatMap((name) =>
    readFileSync(join(audit, name), 'utf8').trimEnd().split('\n'),
  );
  assert.deepEqual((await verifyAudit(both)).findings, []);
  assert.match((await verifyAudit(both.slice(0, -1))).findings[0]?.problem ?? '', /tail was cut/);
});

test('what was delivered before a restart is known after it', async (t) => {
  const { directory } = await mesh(t);
  const place = join(directory, 'elsewhere');
  const lines = sidecarLines(4).map((line) => `${line}\n`);
  const before = openAuditSink(place);
  assert.equal(before.take(SANDBOX, lines.slice(0, 3).join(''), OWNER).head.seq, 2);
  before.close();
  const after = openAuditSink(place);
  t.after(() => after.close());
  assert.equal(after.take(SANDBOX, lines.join(''), OWNER).head.seq, 3);
  const stored = readFileSync(join(place, 'sidecar.jsonl'), 'utf8').split('\n');
  const delivered = stored.filter((line) => line.includes('"part":"sidecar"'));
  assert.deepEqual(
    delivered.map((line) => `${line}\n`),
    lines,
  );
});

test('whose the records of a sandbox are is known after a restart, wherever its file began anew', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-sink-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const rotation = { maxBytes: 4_096, files: 3 };
  const take = (id: string, owner: string, body: string) => {
    const sink = openAuditSink(directory, rotation);
    try {
      return sink.take(id, body, owner).head.seq;
    } finally {
      sink.close();
    }
  };
  const denied = { code: 'EGRESS_DENIED' };
  for (let at = 0; at < 40; at += 1) {
    const body = bodyOf(chainOf(`sc-s${at}`, 'sidecar', []));
    assert.equal(take(`s${at}`, OWNER, body), 0);
    assert.throws(() => take(`s${at}`, 'n'.repeat(64), body), denied, `sandbox ${at}`);
    assert.equal(take(`s${at}`, OWNER, body), 0, 'control');
  }
  assert.ok(readdirSync(directory).length > 1, 'control: it began anew');
});

test('L4: the file of the sidecars begins anew where it is full; what is kept verifies, and after a restart each chain goes on where it stood', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-sink-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const rotation = { maxBytes: 4_096, files: 3 };
  const chains = new Map(
    ['one', 'two', 'three'].map((id) => [id, sidecarLines(60, id).map((line) => `${line}\n`)]),
  );
  let sink = openAuditSink(directory, rotation);
  for (let at = 0; at < 60; at += 4) {
    if (at === 32) {
      sink.close();
      sink = openAuditSink(directory, rotation);
    }
    for (const [id, lines] of chains) {
      const { head, beginsAt } = sink.take(
        id,
        lines.slice(Math.max(0, at - 2), at + 4).join(''),
        OWNER,
      );
      assert.deepEqual([head.seq, beginsAt], [at + 3, undefined]);
    }
  }
  sink.close();
  const names = readdirSync(directory).toSorted();
  assert.equal(names.length, 3);
  assert.ok(!names.includes('sidecar.000001.jsonl'));
  const lines = names.flatMap((name) =>
    readFileSync(join(directory, name), 'utf8').trimEnd().split('\n'),
  );
  assert.deepEqual((await verifyAudit(lines, { begins: [1] })).findings, []);
  const without = await verifyAudit(lines);
  assert.match(without.findings[0]?.problem ?? '', /record 0 expected/, 'control');
});

test('F4: whose records a sandbox has is known after a restart, also where an anchor alone says it, and so is how far its chain has come', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-sink-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const lines = sidecarLines(20_000).map((line) => `${line}\n`);
  const restarted = (use: (sink: ReturnType<typeof openAuditSink>) => void): void => {
    const sink = openAuditSink(directory);
    use(sink);
    sink.close();
  };
  const another = (sink: ReturnType<typeof openAuditSink>): void =>
    assert.throws(() => sink.take(SANDBOX, lines.join(''), 'another'), { code: 'EGRESS_DENIED' });
  // What is refused claims nothing.
  restarted((sink) =>
    assert.throws(() => sink.take(SANDBOX, `${lines[1]}${lines[0]}`, 'another'), {
      code: 'AUDIT_GAP',
    }),
  );
  restarted((sink) =>
    assert.equal(sink.take(SANDBOX, lines.slice(0, 5).join(''), OWNER).head.seq, 4),
  );
  restarted((sink) => {
    another(sink);
    sink.take(SANDBOX, lines.slice(5, 15_000).join(''), OWNER);
    sink.flush(); // and an anchor
  });
  restarted((sink) => {
    another(sink);
    assert.equal(sink.take(SANDBOX, lines.slice(15_000).join(''), OWNER).head.seq, 19_999);
  });
});

test('L4: what sandboxes fill keeps as many files as it is given, and the own audit of the proxy as many as that', async (t) => {
  const config = { audit: { maxBytes: '4KiB', files: 2, sidecarFiles: 4 } };
  const { ask, audit } = await mesh(t, config);
  const lines = sidecarLines(120);
  for (let at = 0; at < lines.length; at += 4) {
    const body = bodyOf(lines.slice(at, at + 4));
    const got = await ask('/.outrider/audit', { method: 'POST', headers: NDJSON, body });
    assert.equal(got.status, 200, got.body);
  }
  const kept = (series: string) =>
    readdirSync(audit).filter((name) => name.startsWith(series) && name.endsWith('.jsonl')).length;
  assert.deepEqual([kept('sidecar.'), kept('proxy.')], [4, 2]);
  const paths = { runtime: audit, state: audit };
  const byDefault = loadConfig('proxy', proxySpec(paths), { argv: ['--policies', audit], env: {} });
  assert.deepEqual([byDefault['audit.sidecarFiles'], byDefault['audit.files']], [50, 5]);
});

test('a start reads the file of the sidecars back to its last anchor, not from the beginning', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-sink-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'sidecar.jsonl');
  const lines = sidecarLines(14_000).map((line) => `${line}\n`);
  const before = openAuditSink(directory);
  before.take(SANDBOX, lines.slice(0, 12_000).join(''), OWNER);
  before.flush();
  before.take(SANDBOX, lines.slice(12_000, 12_500).join(''), OWNER);
  before.close();
  // What stands before the anchor is not looked at: damage there is for `verify` to find.
  const text = readFileSync(path, 'utf8');
  assert.ok(text.length > 2 * 1_048_576);
  writeFileSync(
    path,
    text.replaceAll('"writer":"sc-sbx-test","seq":1,', '"writer":"sc-other","seq":1,'),
  );
  const after = openAuditSink(directory);
  t.after(() => after.close());
  assert.equal(after.take(SANDBOX, lines.slice(12_400).join(''), OWNER).head.seq, 13_999);
  assert.equal(
    after.take(
      'other',
      sidecarLines(2, 'other')
        .map((line) => `${line}\n`)
        .join(''),
      OWNER,
    ).head.seq,
    1,
  );
});

const bad: readonly (readonly [string, (lines: string[]) => string, number, string?])[] = [
  ['a changed record', (l) => `${l[0]}\n${l[1]?.replace('t1', 'tX')}\n${l[2]}\n`, 409],
  ['records of two writers', (l) => bodyOf([l[0], sidecarLines(1, 'other')[0]]), 403],
  ['a chain of another sandbox', () => bodyOf(sidecarLines(3, 'sbx-other')), 403],
  ['the records of another part', () => bodyOf(sidecarLines(3, SANDBOX, 'runner')), 403],
  ["what is the runner's to say", () => bodyOf(own({ event: 'exec' })), 403],
  ['a receipt', () => bodyOf(own({ event: 'receipt' })), 403],
  [
    'requests of another sandbox',
    () => bodyOf(own({ event: 'request', sandboxId: 'sbx-other' })),
    403,
  ],
  ['a key that is there twice', (l) => `${l[0]?.replace('{', '{"part":"proxy",')}\n`, 400],
  ['records behind the end', () => bodyOf(own({ event: 'end' }, { event: 'request' })), 400],
  [
    'a first record that is not the first',
    (l) => `${l[0]?.replace('"prev":"0', '"prev":"1')}\n`,
    409,
  ],
  ['something that is not a record', () => '{"hello":1}\n', 400],
  ['a line that is cut short', (l) => `${l[0]}\n${l[1]?.slice(0, 40)}`, 400],
  ['nothing', () => '\n', 400],
  ['another content type', (l) => `${l[0]}\n`, 415, 'application/json'],
];
/** A chain of the right writer. */
function own(...records: AuditFields[]): string[] {
  return chainOf(`sc-${SANDBOX}`, 'sidecar', records);
}

for (const [what, body, status, type = 'application/x-ndjson'] of bad)
  test(`a delivery of ${what} is refused, and nothing of it is stored`, async (t) => {
    const { ask, sidecarFile } = await mesh(t);
    const got = await ask('/.outrider/audit', {
      method: 'POST',
      headers: { 'content-type': type },
      body: body(sidecarLines(3)),
    });
    assert.equal(got.status, status, got.body);
    assert.equal(deliveredTo(sidecarFile), '');
  });

test('every event of a sidecar is taken, with its sandbox named or not, up to a checkpoint behind the end', async (t) => {
  const { ask, sidecarFile } = await mesh(t);
  const lines = own(
    { event: 'request', sandboxId: SANDBOX, target: 'x' },
    { event: 'request' },
    { event: 'end', sandboxId: SANDBOX },
    { event: 'checkpoint' },
  );
  for (const line of lines) {
    const body = bodyOf([line]);
    const got = await ask('/.outrider/audit', { method: 'POST', headers: NDJSON, body });
    assert.equal(got.status, 200, got.body);
  }
  assert.equal(deliveredTo(sidecarFile), bodyOf(lines));
});

test('another sandbox cannot go on with a chain', async (t) => {
  const { ask, token } = await mesh(t);
  const lines = sidecarLines(2, 'sbx-a');
  const post = (line: string | undefined, bearer: string) =>
    ask('/.outrider/audit', {
      method: 'POST',
      headers: NDJSON,
      body: bodyOf([line]),
      token: bearer,
    });
  assert.equal((await post(lines[0], await token({ sandboxId: 'sbx-a' }))).status, 200);
  assert.equal((await post(lines[1], await token({ sandboxId: 'sbx-b' }))).status, 403);
  assert.equal((await post(lines[1], await token({ sandboxId: 'sbx-a' }))).status, 200);
});

test('a chain that is not known here may begin in the middle, and its receipt says so', async (t) => {
  const { ask, records, sidecarFile } = await mesh(t);
  const lines = sidecarLines(6);
  const post = (some: readonly string[]) =>
    ask('/.outrider/audit', { method: 'POST', headers: NDJSON, body: bodyOf(some) });
  const taken = await post(lines.slice(3, 5));
  assert.equal(taken.status, 200, taken.body);
  assert.equal(JSON.parse(taken.body).acknowledged.seq, 4);
  assert.equal((await post(lines.slice(5))).status, 200);
  assert.equal(deliveredTo(sidecarFile), bodyOf(lines.slice(3)));
  const details = records()
    .filter(({ event }) => event === 'receipt')
    .map(({ detail }) => detail);
  assert.deepEqual(details, [
    'the chain begins here with record 3; what was before is not stored',
    undefined,
  ]);
});

test('the last records are taken with a token that expired within the hour, and with none that is older', async (t) => {
  const { ask, token } = await mesh(t);
  const began = Date.now();
  t.mock.timers.enable({ apis: ['Date'], now: began });
  const bearer = await token();
  const lines = sidecarLines(2);
  const post = (at: number) =>
    ask('/.outrider/audit', {
      method: 'POST',
      headers: NDJSON,
      body: bodyOf([lines[at]]),
      token: bearer,
    });
  t.mock.timers.setTime(began + 30 * 60_000);
  assert.equal((await post(0)).status, 200);
  assert.equal((await ask('/http/api/x', { token: bearer })).status, 401, 'for nothing else');
  t.mock.timers.setTime(began + 62 * 60_000);
  assert.equal((await post(1)).status, 401);
  assert.equal((await ask('/.outrider/audit', { method: 'POST', token: '' })).status, 401);
});

test('while the audit cannot be written nothing goes out; what was owed is written first', () => {
  let full = false;
  let free = 1e9;
  const lines: string[] = [];
  const sink = {
    append: (text: string) => {
      if (full) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      lines.push(...text.split('\n'));
    },
  };
  const audit = createAudit({
    sink,
    log: silentLogger,
    metrics: new Metrics('test'),
    freeBytes: () => {
      if (free < 0) throw Object.assign(new Error('no such directory'), { code: 'ENOENT' });
      return free;
    },
  });
  const unavailable = (error: unknown) =>
    error instanceof OutriderError && error.code === 'AUDIT_UNAVAILABLE';
  audit.assertWritable();
  full = true;
  assert.throws(() => audit.record({ event: 'request', target: 'owed' }), unavailable);
  assert.throws(() => audit.assertWritable(), unavailable);
  full = false;
  audit.assertWritable();
  audit.record({ event: 'request', target: 'next' });
  assert.deepEqual(
    lines.map((line): unknown => JSON.parse(line).target),
    [undefined, 'owed', 'next'],
  );
  free = 1_000;
  assert.throws(() => audit.assertWritable(), unavailable);
  free = -1;
  assert.throws(() => audit.assertWritable(), unavailable, 'its directory is gone');
});

test('a proxy whose audit cannot be written does not start', async (t) => {
  const { directory } = await mesh(t);
  const audit = join(directory, 'full');
  mkdirSync(audit, { mode: 0o700 });
  symlinkSync('/dev/full', join(audit, 'proxy.jsonl'));
  await assert.rejects(
    startMesh(t, { documents: [ROLE, BOUNDARY], config: { auditDir: audit } }),
    (error) => error instanceof OutriderError && error.code === 'AUDIT_UNAVAILABLE',
  );
  rmSync(join(audit, 'proxy.jsonl'));
  writeFileSync(join(audit, 'proxy.jsonl'), '');
  await startMesh(t, { documents: [ROLE, BOUNDARY], config: { auditDir: audit } });
});
