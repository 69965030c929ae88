import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  reasonOf,
  requestRecords,
  rig,
  send,
  statusOf,
  TOKEN,
  until,
  valuesOf,
} from './test-rig.ts';

const ask = (path = '/datasources', head = '', method = 'GET') =>
  `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n${head}\r\n`;

test("F8: a program reads the proxy's list of datasources at the door, which adds the token and nothing of the program's", async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  proxy.answer = (_, response) => void response.end('{"datasources":[]}');
  const answer = await send(
    runner.door,
    ask('/datasources', 'Authorization: Bearer mine\r\nX-Request-Id: mine\r\n'),
  );
  assert.equal(statusOf(answer), 200);
  assert.ok(answer.endsWith('{"datasources":[]}'));
  const [asked] = proxy.requests;
  assert.equal(asked?.url, '/datasources');
  assert.deepEqual(valuesOf(asked.headers, 'proxy-authorization'), [`Bearer ${TOKEN}`]);
  assert.deepEqual(valuesOf(asked.headers, 'authorization'), []);
  assert.notEqual(valuesOf(asked.headers, 'x-request-id')[0], 'mine');
  await until(() => requestRecords(proxy).length === 1);
  const [record] = requestRecords(proxy);
  assert.equal(record?.['target'], '/datasources');
  assert.equal(record?.['verdict'], 'allow');
});

const REFUSED = [
  ['another method', ask('/datasources', '', 'DELETE'), 405, 'method_not_allowed'],
  ['a body', ask('/datasources', 'Content-Length: 1\r\n').concat('x'), 413, 'body_too_large'],
  ['another host', ask().replace('127.0.0.1', 'api.allowed.test'), 400, 'host_mismatch'],
  ['more of a path', ask('/datasources/x'), 404, 'alias_unknown'],
  ['a query', ask('/datasources?x=1'), 404, 'alias_unknown'],
] as const;

for (const [what, bytes, status, reason] of REFUSED)
  test(`F8: ${what} is ${status} ${reason}, and the proxy hears nothing`, async (t) => {
    const { attach, proxy } = await rig(t);
    const runner = await attach();
    await runner.bind();
    const answer = await send(runner.door, bytes);
    assert.deepEqual([statusOf(answer), reasonOf(answer)], [status, reason]);
    assert.equal(proxy.requests.length, 0);
    assert.equal(statusOf(await send(runner.door, ask())), 200, 'control');
  });

test('F8: a program that asks for the list without end is limited', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const statuses: number[] = [];
  const again = ask('/datasources', 'Connection: close\r\n');
  // A burst of 10, and one a second: however long this takes, it comes to a stop.
  while (statuses.at(-1) !== 429 && statuses.length < 100)
    statuses.push(statusOf(await send(runner.door, again)));
  const good = statuses.length - 1;
  assert.deepEqual(statuses, [...Array<number>(good).fill(200), 429]);
  assert.ok(good >= 10, `${good}`);
  assert.equal(proxy.requests.length, good);
});
