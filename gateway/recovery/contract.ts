import assert from 'node:assert/strict';
import { createSecretKey, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Redis as RedisConnection } from '#core/redis';
import type { KeyRing } from '../sessions/key-ring.ts';
import { createMovedSessions } from './moved-sessions.ts';
import { sharedDirectory } from './moves/directory.ts';
import { sharedRedis } from './moves/redis.ts';
import { redisPlace } from './moves/redis-place.ts';
import type { SessionPlace, SharedStore } from './moves/store.ts';
import { createNews } from './news.ts';
import { begin, endAndReplay, kill, pidOf, send, serverOf, startMesh } from './testing.ts';

const KEEP_MS = 60_000;

/** A Redis server with a password, of one test. */
export interface Redis {
  readonly url: string;
  readonly passwordFile: string;
  /** SIGKILL. */
  readonly kill: () => Promise<void>;
}

/** Registers what must hold of both stores, and of gateways that share a Redis. */
export function recoveryContract(startRedis: (t: TestContext) => Promise<Redis>): void {
  // Two stores over one place, as two gateways have them.
  const STORES: Readonly<Record<string, (t: TestContext) => Promise<[SharedStore, SharedStore]>>> =
    {
      'a directory': async (t) => {
        const directory = mkdtempSync(join(tmpdir(), 'outrider-moves-'));
        t.after(() => rmSync(directory, { recursive: true }));
        return [sharedDirectory(directory, KEEP_MS), sharedDirectory(directory, KEEP_MS)];
      },
      'a Redis': async (t) => {
        const { url, passwordFile } = await startRedis(t);
        const place = redisPlace(url, passwordFile);
        return [sharedRedis(place, KEEP_MS), sharedRedis(place, KEEP_MS)];
      },
    };

  for (const [name, open] of Object.entries(STORES))
    test(`in ${name} a move is written by whoever is first, and read by the other`, async (t) => {
      const [first, second] = await open(t);
      t.after(() => [first, second].forEach((store) => store.close()));
      assert.equal(await first.read('move-a'), undefined);
      const both = await Promise.all([first.write('move-a', 'one'), second.write('move-a', 'two')]);
      assert.deepEqual(both[0], both[1], 'both have the one in force');
      assert.deepEqual(await second.read('move-a'), both[0]);
      assert.deepEqual(await first.write('move-a', 'three'), both[0]);
      assert.equal(await second.read('move-b'), undefined);
    });

  for (const [name, open] of Object.entries(STORES))
    test(`in ${name} what is told is heard by all, also by who comes later, and only what gateways with the same keys have told`, async (t) => {
      const [first, second] = await open(t);
      t.after(() => [first, second].forEach((store) => store.close()));
      const failures: unknown[] = [];
      const newsOf = (store: SharedStore, ring: KeyRing) =>
        createNews(
          store,
          () => ring,
          (error) => failures.push(error),
        );
      const ring = ringOf('shared');
      const [teller, hearer] = [newsOf(first, ring), newsOf(second, ring)];
      await teller.tell('ended', ['before', 1]);
      const heard: unknown[] = [];
      let hears = () => {};
      hearer.on('ended', (said) => {
        heard.push(said);
        hears();
      });
      await hearer.start();
      assert.deepEqual(heard, [['before', 1]]);

      await newsOf(first, ringOf('others')).tell('ended', ['forged', 2]);
      await first.tell('ended', JSON.stringify(['forged', 3]));
      await teller.tell('settings', ['nobody hears', 4]);
      await hearer.catchUp();
      assert.ok(failures.length >= 2, 'and it says so');
      const one = new Promise<void>((resolve) => (hears = resolve));
      await teller.tell('ended', ['after', 5]);
      await one;
      assert.deepEqual(heard.at(-1), ['after', 5]);
      assert.ok(!JSON.stringify(heard).includes('forged'));
    });

  for (const [name, open] of Object.entries(STORES))
    test(`in ${name} moves are sealed: who can read and write it learns nothing and diverts nobody`, async (t) => {
      const [first, second] = await open(t);
      t.after(() => [first, second].forEach((store) => store.close()));
      const [keys, others] = [ringOf('shared'), ringOf('others')];
      const failures: unknown[] = [];
      const moves = (store: SharedStore, ring: KeyRing) =>
        createMovedSessions(
          store,
          () => ring,
          (error) => failures.push(error),
        );
      const place = (upstreamId: string) => ({ backend: 'http://10.0.0.2:8790/mcp', upstreamId });
      const keyOf = async (from: SessionPlace): Promise<string> => {
        let asked = '';
        const listening = { ...second, read: async (key: string) => void (asked = key) };
        await moves(listening, keys).lookUp(from);
        return asked;
      };
      await moves(first, keys).move(place('old'), place('new'));
      const written = (await second.read(await keyOf(place('old')))) ?? assert.fail('no move');
      for (const secret of ['10.0.0.2', 'new'])
        assert.ok(!Buffer.from(written.split('.')[1] ?? '', 'base64url').includes(secret), secret);
      assert.deepEqual(
        await moves(second, keys).lookUp(place('old')),
        place('new'),
        'control: the other gateway reads it',
      );
      assert.deepEqual(failures, []);

      await second.write(await keyOf(place('mine')), written);
      await second.write(
        await keyOf(place('theirs')),
        JSON.stringify(['http://10.6.6.6/mcp', 'theirs']),
      );
      for (const from of ['mine', 'theirs'].map(place))
        assert.deepEqual(await moves(first, keys).lookUp(from), from, from.upstreamId);
      assert.deepEqual(await moves(first, others).lookUp(place('old')), place('old'));
      assert.deepEqual(
        await moves(first, keys).move(place('mine'), place('own')),
        place('own'),
        'it moves for itself',
      );
      assert.equal(failures.length, 4, 'and each time says so');
    });

  test('gateways tell each other through Redis where sessions went: written once a move, read only on a miss', async (t) => {
    const redis = await startRedis(t);
    const mesh = await startMesh(t, {
      recoveryDirectory: undefined,
      recoveryRedis: redis.url,
      recoveryRedisPasswordFile: redis.passwordFile,
    });
    const [{ origin: first }, { origin: second }] = mesh.gateways;
    const ids = await Promise.all(Array.from({ length: 12 }, () => begin(first)));
    const stays = await begin(first);
    const victims = new Set(await Promise.all(ids.map((id) => serverOf(mesh, first, id))));
    victims.delete(await serverOf(mesh, first, stays));
    assert.deepEqual(await used(redis), { get: 0, set: 0 }, 'no call asks it');
    for (const victim of victims) await kill(victim);
    const places = await Promise.all(ids.map((id) => pidOf(first, id)));
    const { set } = await used(redis);
    assert.ok(set > 0, 'some of them had been there');
    const found = await Promise.all(ids.map((id) => pidOf(second, id)));
    assert.deepEqual(found, places, 'the other gateway finds the place');
    const after = await used(redis);
    assert.equal(after.set, set, 'and moves nothing itself');
    for (const id of ids) assert.equal((await send(first, id, 'ping')).status, 200);
    for (const id of ids) assert.equal((await send(second, id, 'ping')).status, 200);
    assert.deepEqual(await used(redis), after, 'what is known is not asked again');
  });

  test('gateways tell each other through Redis which sessions ended: none is begun again, also where the gateway is new', async (t) => {
    const redis = await startRedis(t);
    const mesh = await startMesh(t, {
      recoveryDirectory: undefined,
      recoveryRedis: redis.url,
      recoveryRedisPasswordFile: redis.passwordFile,
    });
    await endAndReplay(mesh);
  });

  test('with Redis away each gateway keeps its own sessions alive, and says so', async (t) => {
    const redis = await startRedis(t);
    const mesh = await startMesh(t, {
      recoveryDirectory: undefined,
      recoveryRedis: redis.url,
      recoveryRedisPasswordFile: redis.passwordFile,
    });
    const [{ origin }] = mesh.gateways;
    const id = await begin(origin);
    await redis.kill();
    await kill(await serverOf(mesh, origin, id));
    assert.equal((await send(origin, id, 'ping')).status, 200);
    assert.equal((await send(origin, id, 'ping')).status, 200);
    const metrics = await (await fetch(`${origin}/metrics`)).text();
    assert.match(metrics, /^outrider_recovery_store_failures_total\{.*\} [1-9]/m);
  });
}

/** Keys of gateways that have no others. */
function ringOf(kid: string): KeyRing {
  const first = { kid, key: createSecretKey(randomBytes(32)) };
  return { first, find: (asked) => (asked === kid ? first : undefined) };
}

/** How often Redis was asked for a move and given one. */
async function used({ url, passwordFile }: Redis) {
  const { address, password } = redisPlace(url, passwordFile);
  const connection = new RedisConnection({ address, password: () => password, greet: [['PING']] });
  await connection.tried;
  const [said] = await connection.send([['INFO', 'commandstats']]);
  connection.close();
  const calls = (command: string) =>
    Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(String(said))?.[1] ?? 0);
  return { get: calls('get'), set: calls('set') };
}
