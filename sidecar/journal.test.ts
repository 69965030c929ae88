import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { get, requestRecords, rig, send, statusOf } from './test-rig.ts';

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

test('a flood of refused requests is answered 429 and recorded as a number; what is allowed goes on and is recorded each', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const { ask, end } = program(runner.door);
  t.after(end);
  const sent = 600;
  const seen = new Map<string, number>();
  for (let at = 0; at < sent; at++) {
    const key = await ask('http://evil.test/');
    seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  for (let at = 0; at < 5; at++) assert.equal(await ask('http://api.allowed.test/v1/ok'), '200  -');
  const recorded = seen.get('403 host_denied -') ?? 0;
  const counted = seen.get('429 refusal_flood 1') ?? 0;
  assert.equal(recorded + counted, sent);
  assert.ok(recorded >= 200 && recorded < 450, `${recorded} recorded one by one`);

  const { denied, allowed } = await runner.unbind();
  assert.deepEqual([denied, allowed], [BigInt(sent), 5n], 'all of them are counted');
  const records = requestRecords(proxy);
  const by = (reason: string | undefined) => records.filter((one) => one['reason'] === reason);
  assert.equal(by('host_denied').length, recorded);
  assert.equal(by(undefined).length, 5);
  const summaries = by('refusal_flood');
  assert.ok(summaries.length > 0 && summaries.length < 10);
  const total = summaries.reduce((sum, { detail }) => sum + Number.parseInt(String(detail), 10), 0);
  assert.equal(total, counted);
  for (const summary of summaries) {
    assert.deepEqual([summary['verdict'], summary['execId']], ['limit', 'exec-1']);
    assert.match(String(summary['detail']), /one by one: host_denied \d+$/);
  }
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
