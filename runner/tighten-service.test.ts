import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { KilledBy } from '#proto';
import { type ExecStream, python } from './test-rig.ts';
import { endOf, FOREVER, POLICIES, serviceRig, startOf, until } from './testing.ts';

const service = serviceRig();

const RULE = (paths: string) => `---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: tester, owner: tests}
spec:
  subjects: [{role: tester}]
  mode: enforce
  allow:
    - {id: api, hosts: [api.allowed.test], scheme: http, methods: [GET], paths: ["${paths}"]}
`;

/** What the runner's policies are from now on; read four times a second. */
function write(text: string): void {
  const directory = join(service.rig.directory, 'policies');
  writeFileSync(join(directory, '..', 'next.yaml'), text);
  renameSync(join(directory, '..', 'next.yaml'), join(directory, 'roles.yaml'));
}
afterEach(() => write(POLICIES));

/** Makes a request for every line of its stdin, and prints the status of the answer. */
const ASKS = `
import sys, urllib.request
for line in sys.stdin:
    try: print(urllib.request.urlopen("http://api.allowed.test/v1/items").status, flush=True)
    except urllib.error.HTTPError as error: print(error.code, flush=True)`;

async function start(code: string, who = service.alice, role = 'tester'): Promise<ExecStream> {
  const stream = service.open(python(code, { role, openStdin: true }), who);
  await startOf(stream);
  return stream;
}

/** The next line that a program writes. */
async function lineOf(stream: ExecStream): Promise<string> {
  const one = await stream.next();
  assert.ok(one?.$case === 'stdout', one?.$case);
  return one.value.data.toString().trim();
}

async function statusOf(stream: ExecStream): Promise<string> {
  stream.send({ $case: 'stdin', value: Buffer.from('\n') });
  return lineOf(stream);
}

/** Waits until a program that starts now gets this status: the runner has read its policies. */
async function untilNewOnesGet(status: string): Promise<ExecStream> {
  for (;;) {
    const stream = await start(ASKS);
    if ((await statusOf(stream)) === status) return stream;
    stream.halfClose();
    await stream.rest();
  }
}

test('E9: a running exec is held to a newer policy where that is narrower, and gets nothing of a wider one', {
  timeout: 120_000,
}, async () => {
  write(POLICIES + RULE('/v1/**'));
  const running = await untilNewOnesGet('200');
  write(POLICIES + RULE('/v2/**'));
  await until(async () => (await statusOf(running)) === '403');
  write(POLICIES + RULE('/v1/**'));
  const newer = await untilNewOnesGet('200');
  assert.equal(await statusOf(running), '403');
  for (const stream of [running, newer]) stream.cancel();
});

test('E9: an exec whose role is gone is ended by the policy; one of another role goes on', {
  timeout: 120_000,
}, async () => {
  const gone = await start(FOREVER);
  const stays = await start(
    ASKS.replace('import', 'print("up", flush=True)\nimport'),
    await service.rig.as('both'),
    'other',
  );
  for (const stream of [gone, stays]) assert.equal(await lineOf(stream), 'up');
  write(POLICIES.slice(POLICIES.indexOf('---')));
  const { killedBy, errorCode } = endOf(await gone.rest()) ?? {};
  assert.deepEqual([killedBy, errorCode], [KilledBy.POLICY, 'ROLE_DENIED']);
  assert.equal(await statusOf(stays), '403', 'no rule of its own, but it runs');
  stays.cancel();
});
