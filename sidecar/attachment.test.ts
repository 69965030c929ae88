import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { hashLine, readLine, verifyAudit } from '#core/audit';
import {
  get,
  policyOf,
  Runner,
  reasonOf,
  requestRecords,
  rig,
  send,
  statusOf,
  TOKEN,
  until,
} from './test-rig.ts';

const OK = get('http://api.allowed.test/v1/ok', 'api.allowed.test');

test('the socket of a door is for its owner and the group of its directory only, and gone when the stream ends, however it ends', async (t) => {
  const { attach } = await rig(t);
  const ends: readonly (readonly [string, (runner: Runner) => void])[] = [
    ['half-closed', (runner) => runner.call.end()],
    ['cancelled', (runner) => runner.call.cancel()],
  ];
  for (const [how, end] of ends) {
    const runner = await attach(how);
    await runner.bind();
    assert.equal(statSync(runner.door).mode & 0o777, 0o660);
    assert.equal(statusOf(await send(runner.door, OK)), 200);
    end(runner);
    await until(() => !existsSync(runner.door));
    assert.equal(await send(runner.door, OK), '', how);
    await runner.ended;
  }
});

test('a stream that sends nonsense ends itself and no other', async (t) => {
  const { client, attach, directory } = await rig(t);
  const good = await attach('good');
  await good.bind();
  const bad = await attach('bad');
  await assert.rejects(bad.bind({ policy: Buffer.from('{}') }), { code: 9 });
  await until(() => !existsSync(bad.door));

  const twin = new Runner(client, join(directory, 'twin.sock'));
  const open = (attachmentId: string) => ({
    $case: 'open' as const,
    value: {
      attachmentId,
      sandboxId: 's',
      spoolPath: '',
      listen: { $case: 'unix' as const, value: { path: twin.door, controlPath: '' } },
    },
  });
  await assert.rejects(twin.ask(open('good')), { code: 3 }, 'an id in use');
  const unopened = new Runner(client, join(directory, 'unopened.sock'));
  await assert.rejects(unopened.bind(), { code: 3 }, 'bind before open');
  await assert.rejects(good.bind(), { code: 10 }, 'a second exec at once');
  await good.ended;
});

test('a message for an exec that is not bound, not yet or no more, is passed over and ends nothing', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  const closed = policyOf([]);
  const token = { jwt: TOKEN, expiresAt: new Date(Date.now() - 60_000) };
  const late = (execId: string) => {
    const about = { policyDigest: 'e'.repeat(64), policyCommit: '', policySerial: 0n };
    runner.tell({ $case: 'tighten', value: { execId, policy: closed, ...about } });
    runner.tell({
      $case: 'tighten',
      value: { execId, policy: Buffer.from('no policy'), ...about },
    });
    runner.tell({ $case: 'renew', value: { execId, token } });
  };
  late('exec-1');
  await runner.bind();
  late('exec-0');
  assert.equal(statusOf(await send(runner.door, OK)), 200, 'neither narrowed nor expired');
  await runner.unbind();
  late('exec-1');
  await runner.bind({ execId: 'exec-2' });
  assert.equal(statusOf(await send(runner.door, OK)), 200);
  assert.equal(proxy.requests.length, 2);

  await runner.tighten(closed, 'e'.repeat(64), 'exec-2');
  assert.equal(statusOf(await send(runner.door, OK)), 403, 'the exec that is bound is meant');
});

test('the same policy under a newer digest changes what records say and nothing else, and what was narrowed stays so', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  for (const digest of ['a', 'b']) {
    await runner.tighten(policyOf(), digest.repeat(64));
    assert.equal(statusOf(await send(runner.door, OK)), 200);
  }
  await runner.tighten(policyOf([]), 'c'.repeat(64));
  await runner.tighten(policyOf(), 'd'.repeat(64));
  assert.equal(statusOf(await send(runner.door, OK)), 403, 'what came back is not given back');
  await runner.unbind();
  assert.deepEqual(
    requestRecords(proxy).map(({ policyDigest }) => String(policyDigest).charAt(0)),
    ['a', 'b', 'd'],
  );
});

test('RelayControl is not in this version', async (t) => {
  const { client } = await rig(t);
  const call = client.relayControl();
  const code = await new Promise((resolve) => {
    call.on('error', (error: Error & { code: number }) => resolve(error.code)).on('data', () => {});
  });
  assert.equal(code, 12);
});

test('a door on TCP must be on loopback', async (t) => {
  const { client } = await rig(t);
  const open = (address: string) => ({
    $case: 'open' as const,
    value: {
      attachmentId: address.replaceAll(/[.:]/g, '-'),
      sandboxId: 's',
      spoolPath: '',
      listen: { $case: 'tcp' as const, value: { address } },
    },
  });
  await assert.rejects(new Runner(client, '').ask(open('0.0.0.0:0')), { code: 3 });
  assert.equal((await new Runner(client, '').ask(open('127.0.0.1:0'))).$case, 'opened');
});

test('every record reaches the proxy, and the chain of them verifies', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  await send(runner.door, OK);
  await send(runner.door, get('http://evil.test/secret?key=1', 'evil.test'));
  const { auditHead, undeliveredRecords } = await runner.unbind();
  assert.equal(undeliveredRecords, 0n);
  await runner.close();
  const verified = await verifyAudit(proxy.auditLines, {
    heads: auditHead ? [{ ...auditHead, seq: Number(auditHead.seq) }] : [],
  });
  assert.deepEqual(verified.findings, []);
  const records = proxy.auditLines.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    records.map(({ event }) => event),
    ['start', 'request', 'request', 'end'],
  );
  const [, allowed, denied] = records;
  assert.partialDeepStrictEqual(allowed, {
    part: 'sidecar',
    writer: 'sc-sbx-att-1',
    requestId: 'req-of-the-call',
    issuer: 'test',
    subject: 'someone',
    tenant: 'acme',
    role: 'tester',
    sandboxId: 'sbx-att-1',
    execId: 'exec-1',
    ingress: 'forward',
    method: 'GET',
    target: 'http://api.allowed.test/v1/ok',
    verdict: 'allow',
    policy: 'door',
    rule: 'api',
    tokenId: 'jti-1',
    status: 200,
    bytesIn: 5,
    bytesOut: 0,
  });
  assert.partialDeepStrictEqual(denied, {
    target: 'http://evil.test/secret',
    verdict: 'deny',
    reason: 'host_denied',
    rule: 'no-evil',
    status: 403,
  });
  const everything = proxy.auditLines.join('\n');
  assert.ok(!everything.includes(TOKEN) && !everything.includes('key=1'));
});

test('a full spool refuses traffic, says so, and lets it go on when it has drained', async (t) => {
  const { attach, proxy } = await rig(t, { spoolRecords: 16 });
  proxy.storesAudit = false;
  const runner = await attach();
  await runner.bind();
  // `start` has the first place.
  for (let at = 0; at < 15; at++) assert.equal(statusOf(await send(runner.door, OK)), 200);
  const refused = await send(runner.door, OK);
  assert.deepEqual([statusOf(refused), reasonOf(refused)], [503, 'audit_backpressure']);
  assert.equal(proxy.requests.length, 15);
  const states = () =>
    runner.events.flatMap((event) => (event.$case === 'spool' ? [event.value.refusing] : []));
  await until(() => states().length === 1);

  proxy.storesAudit = true;
  await until(() => states().length === 2);
  assert.deepEqual(states(), [true, false]);
  assert.equal(statusOf(await send(runner.door, OK)), 200);
  await runner.close();
  assert.deepEqual((await verifyAudit(proxy.auditLines)).findings, []);
  assert.ok(proxy.auditLines.some((line) => line.includes('1 requests were refused')));
});

/** The lines that the sidecar hands over on demand. */
async function pendingLines(runner: Runner): Promise<string[]> {
  const drained = await runner.ask({ $case: 'drain', value: {} });
  assert.equal(drained.$case, 'drained');
  return runner.events
    .splice(0)
    .flatMap((event) => (event.$case === 'auditRecord' ? [event.value.line.toString('utf8')] : []));
}

test('what could not be delivered is counted, handed over on demand, and kept', async (t) => {
  const { attach, proxy } = await rig(t);
  proxy.storesAudit = false;
  const runner = await attach();
  await runner.bind();
  await send(runner.door, OK);
  assert.equal((await runner.unbind()).undeliveredRecords, 2n);
  const lines = await pendingLines(runner);
  assert.deepEqual((await verifyAudit(lines)).findings, []);
  assert.equal(lines.length, 2);
  proxy.storesAudit = true;
  await until(() => proxy.auditLines.length === 2);
  assert.deepEqual(proxy.auditLines, lines);
});

/** What the proxy has after this line. */
function headAfter(line = '') {
  const { writer, seq } = readLine(line) ?? { writer: '', seq: -1 };
  return { writer, seq, hash: hashLine(line) };
}

test('delivery goes on behind the record that the proxy says it has', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  await send(runner.door, OK);
  await until(() => proxy.auditLines.length === 2);
  const stored = () => ({ acknowledged: headAfter(proxy.auditLines.at(-1)) });
  // The answer to one delivery is lost, and the proxy then refuses what it has already.
  proxy.auditAnswer = (response) => response.destroy();
  await send(runner.door, OK);
  await until(() => proxy.deliveries === 2);
  const lines = await pendingLines(runner);
  proxy.auditLines.push(...lines);
  await send(runner.door, OK);
  proxy.auditAnswer = (response) => {
    proxy.auditAnswer = undefined;
    response.writeHead(409).end(JSON.stringify(stored()));
  };
  assert.equal((await runner.unbind()).undeliveredRecords, 0n);
  assert.deepEqual((await verifyAudit(proxy.auditLines)).findings, []);
  assert.equal(proxy.auditLines.length, 4);
});

test('what the proxy refuses for good is kept and not sent over and over', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  await send(runner.door, OK);
  await until(() => proxy.auditLines.length === 2);
  const old = headAfter(proxy.auditLines[0]);
  proxy.auditAnswer = (response) =>
    void response.writeHead(409).end(JSON.stringify({ acknowledged: old }));
  const before = proxy.deliveries;
  await send(runner.door, OK);
  await until(() => proxy.deliveries > before);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  assert.equal(proxy.deliveries, before + 1);
  assert.equal((await runner.unbind()).undeliveredRecords, 1n);
  assert.equal(proxy.deliveries, before + 2, 'the end of an exec tries once');
  await runner.close();
});

test('while the proxy is only away, delivery is tried again and again', async (t) => {
  const { attach, proxy } = await rig(t);
  proxy.storesAudit = false;
  const runner = await attach();
  await runner.bind();
  await send(runner.door, OK);
  await until(() => proxy.deliveries >= 2);
  proxy.storesAudit = true;
  await until(() => proxy.auditLines.length === 2);
});

test('a door of which nothing was asked has no record and delivers nothing', async (t) => {
  const { attach, proxy } = await rig(t);
  const silent = await attach();
  await silent.bind();
  const { auditHead, undeliveredRecords } = await silent.unbind();
  assert.equal(auditHead, undefined);
  assert.equal(undeliveredRecords, 0n);
  await silent.close();
  assert.equal(proxy.deliveries, 0);
  const asked = await attach();
  await asked.bind();
  await send(asked.door, OK);
  assert.ok((await asked.unbind()).auditHead);
  assert.equal(proxy.deliveries, 1);
  await asked.close();
});

test('with a spool file, undelivered records outlive the process, and delivered ones leave it', async (t) => {
  const { client, directory, proxy } = await rig(t);
  proxy.storesAudit = false;
  const spoolPath = join(directory, 'spool.jsonl');
  const open = (id: string) => ({
    $case: 'open' as const,
    value: {
      attachmentId: id,
      sandboxId: 's',
      spoolPath,
      listen: { $case: 'unix' as const, value: { path: join(directory, id), controlPath: '' } },
    },
  });
  await assert.rejects(new Runner(client, '').ask(open('missing')), { code: 3 });
  writeFileSync(spoolPath, '');
  const runner = new Runner(client, join(directory, 'kept'));
  await runner.ask(open('kept'));
  await runner.bind({ policy: policyOf() });
  await send(runner.door, OK);
  const kept = readFileSync(spoolPath, 'utf8').trimEnd().split('\n');
  assert.equal(kept.length, 2);
  assert.deepEqual((await verifyAudit(kept)).findings, []);
  proxy.storesAudit = true;
  await until(() => proxy.auditLines.length === 2);
  await until(() => readFileSync(spoolPath, 'utf8') === '');
});

test('the metrics count requests by verdict, refusals by reason, and what is not delivered yet', async (t) => {
  const { attach, metrics, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  await send(runner.door, OK);
  await send(runner.door, get('http://evil.test/', 'evil.test'));
  await until(() => proxy.auditLines.length === 3);
  // What the proxy has stored is pending until its answer is here.
  const pending = 'outrider_audit_pending_records{part="sidecar"}';
  let body = '';
  for (let tries = 0; tries < 100 && !body.includes(`${pending} 0`); tries++) {
    ({ body } = await metrics.text());
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  for (const line of [
    'outrider_requests_total{verdict="allow",part="sidecar"} 1',
    'outrider_requests_total{verdict="deny",part="sidecar"} 1',
    'outrider_denials_total{reason="host_denied",part="sidecar"} 1',
    'outrider_attachments{part="sidecar"} 1',
    `${pending} 0`,
  ])
    assert.ok(body.includes(line), line);
});
