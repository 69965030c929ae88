import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { AuditChain } from '#core/audit';
import { Journal } from './journal.ts';
import { createMeasures } from './measures.ts';
import { Refused } from './refusal.ts';
import { Spool } from './spool.ts';
import { get, policyOf, RULES, requestRecords, rig, send, statusOf, until } from './test-rig.ts';

/** A program that asks over one connection, again and again. */
function program(door: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  /** Resolves to status, reason and `Retry-After` in one line. */
  const ask = (url: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const { host } = new URL(url);
      const sent = request({ socketPath: door, path: url, headers: { host }, agent });
      sent.on('error', reject).end();
      sent.on('response', (response) => {
        const { statusCode: status = 0, headers } = response;
        const { 'x-outrider-reason': reason = '', 'retry-after': wait = '-' } = headers;
        // The connection is free for the next when this has been read.
        response.on('end', () => resolve(`${status} ${String(reason)} ${wait}`));
        response.resume();
      });
    });
  return { ask, end: () => agent.destroy() };
}

test('E7: of requests that are allowed, denied and limited each has its own answer and its own record, however many they are', async (t) => {
  const { attach, proxy } = await rig(t);
  const [api] = RULES;
  assert.ok(api);
  const runner = await attach();
  await runner.bind({ policy: policyOf([{ ...api, limits: { rate: '2/h', burst: 2 } }]) });
  const { ask, end } = program(runner.door);
  t.after(end);
  const seen = new Map<string, number>();
  const each = 400;
  for (let at = 0; at < each; at++)
    for (const url of ['http://evil.test/', 'http://api.allowed.test/v1/ok']) {
      const key = (await ask(url)).replace(/ 1[78]\d\d$/, ' half an hour');
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
  assert.deepEqual(
    [...seen],
    [
      ['403 host_denied -', each],
      ['200  -', 2],
      ['429 rate_limited half an hour', each - 2],
    ],
  );
  await runner.unbind();
  const counted = new Map<string, number>();
  for (const { verdict, reason, rule } of requestRecords(proxy)) {
    const key = [verdict, reason, rule].map(String).join(' ');
    counted.set(key, (counted.get(key) ?? 0) + 1);
  }
  assert.deepEqual(
    [...counted],
    [
      ['deny host_denied no-evil', each],
      ['allow undefined api', 2],
      ['limit rate_limited api', each - 2],
    ],
  );
});

test('E7: a flood of refusals is slowed down, and each is told as it is and recorded', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const programs = Array.from({ length: 8 }, () => program(runner.door));
  t.after(() => {
    for (const { end } of programs) end();
  });
  const sent = 3_000;
  const began = performance.now();
  const answers = await Promise.all(
    programs.map(async ({ ask }) => {
      const kinds = new Set<string>();
      for (let at = 0; at < sent / programs.length; at++) kinds.add(await ask('http://evil.test/'));
      return kinds;
    }),
  );
  for (const kinds of answers) assert.deepEqual([...kinds], ['403 host_denied -']);
  // A thousand are beyond what is answered at once; eight are on their way.
  assert.ok(performance.now() - began > 1_950, 'they take their time');
  const { denied } = await runner.unbind();
  assert.equal(denied, BigInt(sent));
  await until(() => requestRecords(proxy).length === sent);
});

test('refusals that come faster than anybody can wait for answers are recorded as a number from where they are far ahead', () => {
  const spool = new Spool(10_000);
  const journal = new Journal({
    sandboxId: 'sbx',
    chain: new AuditChain('sidecar', spool, { writer: 'sc-sbx', silent: true }),
    spool,
    measures: createMeasures(undefined),
    onDenied: () => {},
    onSpool: () => {},
    onRecord: () => {},
  });
  const sent = 9_000;
  for (let at = 0; at < sent; at++)
    journal.begin('forward', '', undefined).refuse(new Refused('conn_limit'));
  journal.finish();
  const reasons = spool.lines().map((line) => /"reason":"(\w+)"/.exec(line)?.[1]);
  const each = reasons.filter((reason) => reason === 'conn_limit').length;
  assert.ok(each > 7_000, `${each} recorded one by one`);
  const last = spool.lines().at(-1) ?? '';
  assert.match(last, new RegExp(`"detail":"${sent - each} more [^"]*: conn_limit ${sent - each}"`));
  assert.equal(reasons.filter((reason) => reason === 'refusal_flood').length, 1);
});

test('the record of a refusal has 256 characters of its target, that of an allowed request all of them', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const path = `/v1/${'x'.repeat(1_000)}`;
  const asked = ['api.allowed.test', 'evil.test'].map((host) =>
    send(runner.door, get(`http://${host}${path}`, host), 60),
  );
  assert.deepEqual((await Promise.all(asked)).map(statusOf), [200, 403]);
  await runner.unbind();
  const lengths = requestRecords(proxy).map(
    ({ verdict, target }) => `${String(verdict)} ${String(target).length}`,
  );
  const whole = `http://api.allowed.test${path}`.length;
  assert.deepEqual(new Set(lengths), new Set([`allow ${whole}`, 'deny 256']));
});
