import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  begin,
  endAndReplay,
  kill,
  pidOf,
  send,
  serverOf,
  spawnServer,
  startMesh,
} from './testing.ts';

test('sessions of a killed server go on elsewhere, with their settings, through both gateways', async (t) => {
  const mesh = await startMesh(t);
  const [first, second] = mesh.gateways;
  const ids = await Promise.all(
    Array.from({ length: 24 }, (_, n) => begin(first.origin, `client-${n}`)),
  );
  for (const id of ids) {
    await send(first.origin, id, 'logging/setLevel', { level: 'debug' });
    await send(first.origin, id, 'resources/subscribe', { uri: 'test://a' });
    await send(first.origin, id, 'resources/subscribe', { uri: 'test://b' });
    await send(first.origin, id, 'resources/unsubscribe', { uri: 'test://a' });
  }
  const [victim] = mesh.servers;
  assert.ok(victim);
  await kill(victim);
  const after = await Promise.all(
    ids.map(async (id) => {
      const responses = await Promise.all([1, 2, 3].map(() => send(first.origin, id, 'ping')));
      for (const { status, headers } of responses) {
        assert.equal(status, 200);
        assert.equal(headers.get('mcp-session-id'), id, 'the client sees no other id');
      }
      return Object(await responses[0]?.json());
    }),
  );
  const moved = mesh.moves().length;
  assert.ok(moved > 0, 'some of them had been there');
  for (const [n, { client, told }] of after.entries()) {
    assert.equal(client, `client-${n}`);
    assert.equal(told[0], 'notifications/initialized 2025-06-18');
    assert.deepEqual(
      told.slice(1).filter((line: string) => /debug|test:\/\/b/.test(line)),
      ['logging/setLevel debug', 'resources/subscribe test://b'],
    );
  }
  for (const [n, id] of ids.entries())
    assert.equal(
      await pidOf(second.origin, id),
      after[n]?.pid,
      'the other gateway finds the place',
    );
  assert.equal(mesh.moves().length, moved, 'and moves nothing itself');
});

test('what was set through one gateway is set again by the other, but for what the server refused', async (t) => {
  const mesh = await startMesh(t);
  const [{ origin: first }, { origin: second }] = mesh.gateways;
  const id = await begin(first);
  await send(first, id, 'logging/setLevel', { level: 'debug' });
  for (const uri of ['test://a', 'refused'])
    await send(first, id, 'resources/subscribe', { uri, level: 'none of it' });
  await kill(await serverOf(mesh, first, id));
  const { told } = Object(await (await send(second, id, 'ping')).json());
  assert.deepEqual(told, [
    'notifications/initialized 2025-06-18',
    'logging/setLevel debug',
    'resources/subscribe test://a',
  ]);
});

test('A6: a session that was ended at one gateway is begun again by none, though its server is gone', async (t) => {
  await endAndReplay(await startMesh(t));
});

test('a session moves again when its new server goes as well', async (t) => {
  const mesh = await startMesh(t);
  const [{ origin }] = mesh.gateways;
  const id = await begin(origin);
  await kill(await serverOf(mesh, origin, id));
  await kill(await serverOf(mesh, origin, id));
  assert.equal((await send(origin, id, 'ping')).status, 200);
  await kill(await serverOf(mesh, origin, id));
  assert.equal((await send(origin, id, 'ping')).status, 502, 'until no server is left');
});

const VERSIONS = [
  ['2025-03-26', '2025-03-26', 404, 'neither server speaks what was agreed on'],
  [
    '2025-03-26',
    '2025-11-25,2025-06-18',
    200,
    'one does, and is not asked for what the client asked for once',
  ],
] as const;

for (const [second, third, status, why] of VERSIONS)
  test(`a session of 2025-06-18 is ${status} before servers of ${second} and ${third}: ${why}`, async (t) => {
    const mesh = await startMesh(t, {}, ['2025-06-18', second, third]);
    const [{ origin }, other] = mesh.gateways;
    const [first] = mesh.servers;
    assert.ok(first);
    const beginAtFirst = async (): Promise<string> => {
      const params = {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'me' },
      };
      const response = await send(origin, undefined, 'initialize', params);
      const id = response.headers.get('mcp-session-id') ?? assert.fail('no session');
      return (await pidOf(origin, id)) === first.child.pid ? id : beginAtFirst();
    };
    const id = await beginAtFirst();
    await kill(first);
    for (const at of [origin, origin, other.origin])
      assert.equal((await send(at, id, 'ping')).status, status);
    const metrics = await (await fetch(`${origin}/metrics`)).text();
    const result = status === 200 ? 'ok' : 'failed';
    assert.match(metrics, new RegExp(`sessions_recovered_total\\{result="${result}",.*\\} 1\n`));
  });

test('without recovery the session of a killed server is lost', async (t) => {
  const mesh = await startMesh(t, { recovery: false });
  const [{ origin }] = mesh.gateways;
  const id = await begin(origin);
  await kill(await serverOf(mesh, origin, id));
  assert.equal((await send(origin, id, 'ping')).status, 502);
});

test('a server that says 404 has ended the session: it is not begun again', async (t) => {
  const mesh = await startMesh(t);
  const [{ origin }] = mesh.gateways;
  const id = await begin(origin);
  const server = await serverOf(mesh, origin, id);
  await kill(server);
  await spawnServer(t, '/dev/null', Number(new URL(server.url).port));
  assert.equal((await send(origin, id, 'ping')).status, 404);
  assert.deepEqual(mesh.moves(), []);
});

for (const [safeTools, status, sent] of [
  [[], 502, 1],
  [['other'], 502, 1],
  [['compute'], 200, 2],
] as const)
  test(`a call that was lost half-way is sent ${sent} times with safeTools [${safeTools.join()}], and its session lives`, async (t) => {
    const mesh = await startMesh(t, { safeTools });
    const [{ origin }] = mesh.gateways;
    const id = await begin(origin);
    const response = await send(origin, id, 'tools/call', { name: 'compute', arguments: {} });
    assert.equal(response.status, status);
    if (status === 502)
      assert.equal(Object(await response.json()).error.data.code, 'UPSTREAM_LOST');
    assert.equal(mesh.calls(), sent);
    assert.equal((await send(origin, id, 'ping')).status, 200);
  });

for (const [safeTools, answer] of [
  [[], /^: here\n\ndata: .*"id":1,.*"UPSTREAM_LOST"/],
  [['compute'], /^: here\n\ndata: .*"pid":/],
] as const)
  test(`a call that was lost in its stream of events ends in it with safeTools [${safeTools.join()}], and its session lives`, async (t) => {
    const mesh = await startMesh(t, { safeTools });
    const [{ origin }] = mesh.gateways;
    const id = await begin(origin);
    const call = { name: 'compute', arguments: { streams: true } };
    const response = await send(origin, id, 'tools/call', call);
    assert.match(await response.text(), answer);
    assert.equal((await send(origin, id, 'ping')).status, 200);
  });
