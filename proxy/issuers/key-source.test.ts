import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errors, exportJWK, generateKeyPair, type JWK } from 'jose';
import { createIssuerKeys, KeysUnavailable } from '#core/issuer-keys';
import { silentLogger } from '#core/log';

const token = { payload: '', signature: '', protected: '' };
const COOLDOWN_MS = 5_000;
const MAX_AGE_MS = 3_600_000;

/** An issuer whose answers, and a clock whose time, the test decides. */
async function rig() {
  const known = await key('known');
  const state = { now: 1_000, fetches: 0, keys: [known], away: false };
  const source = createIssuerKeys({
    issuer: 'https://idp.example',
    cooldownMs: COOLDOWN_MS,
    maxAgeMs: MAX_AGE_MS,
    log: silentLogger,
    now: () => state.now,
    fetch: async () => {
      state.fetches += 1;
      if (state.away) throw new Error('away');
      return { keys: state.keys };
    },
  });
  return { state, source, get: (kid: string) => source.get({ alg: 'ES256', kid }, token) };
}

async function key(kid: string): Promise<JWK> {
  const { publicKey } = await generateKeyPair('ES256', { extractable: true });
  return { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' };
}

test('a hundred callers at once cause one fetch', async () => {
  const { state, get } = await rig();
  await Promise.all(Array.from({ length: 100 }, () => get('known')));
  assert.equal(state.fetches, 1);
});

test('a rotated key is found at once, and one that was taken away is gone within 10 minutes', async () => {
  const { state, get } = await rig();
  await get('known');
  state.keys = [await key('next')];
  state.now += COOLDOWN_MS;
  await get('next');
  assert.equal(state.fetches, 2);
  await assert.rejects(get('known'), errors.JWKSNoMatchingKey);
});

test('unknown keys cause a fetch each cool-down, however many tokens name them', async () => {
  const { state, get } = await rig();
  await get('known');
  state.now += COOLDOWN_MS;
  const refused = await Promise.allSettled(
    Array.from({ length: 200 }, (_, n) => get(`made-up-${n}`)),
  );
  assert.ok(refused.every(({ status }) => status === 'rejected'));
  assert.equal(state.fetches, 2);
  await assert.rejects(get('another'), errors.JWKSNoMatchingKey);
  assert.equal(state.fetches, 2);
  await get('known');
});

test('while the issuer is away known keys go on for a bounded time, unknown ones are refused, and there is no storm', async () => {
  const { state, source, get } = await rig();
  await get('known');
  state.away = true;
  for (let minute = 0; minute < 59; minute++) {
    state.now += 60_000;
    await Promise.all([get('known'), get('known')]);
    await assert.rejects(get('unknown'), KeysUnavailable);
    assert.match(
      (await source.problem()) ?? '',
      /^its keys cannot be fetched; those known are good for \d+ s more$/,
    );
  }
  assert.ok(state.fetches <= 60, `${state.fetches} fetches in an hour`);
  state.now += 120_000;
  await assert.rejects(get('known'), KeysUnavailable);
  assert.equal(await source.problem(), 'its keys cannot be fetched');
  state.away = false;
  await assert.rejects(get('known'), KeysUnavailable, 'not within the cool-down');
  state.now += COOLDOWN_MS;
  await get('known');
  assert.equal(await source.problem(), undefined);
});

test('F9: whoever asks whether there is a problem ends it: keys are fetched without a token, once a cool-down', async () => {
  const { state, source } = await rig();
  state.away = true;
  assert.equal(await source.problem(), 'its keys cannot be fetched');
  state.away = false;
  assert.equal(await source.problem(), 'its keys cannot be fetched', 'not within the cool-down');
  assert.equal(state.fetches, 1);
  state.now += COOLDOWN_MS;
  assert.equal(await source.problem(), undefined);
  assert.equal(await source.problem(), undefined);
  assert.equal(state.fetches, 2, 'no more than is needed to know');
});

test('of an issuer that nobody asked for long there is no problem: its keys are fetched again first', async () => {
  const { state, source, get } = await rig();
  await get('known');
  state.now += 2 * MAX_AGE_MS;
  assert.equal(await source.problem(), undefined);
  await get('known');
  assert.equal(state.fetches, 2);
});

test('an issuer that is away is noticed without a token, and known keys go on', async () => {
  const { state, source, get } = await rig();
  await get('known');
  state.away = true;
  state.now += 2 * COOLDOWN_MS;
  assert.match((await source.problem()) ?? '', /those known are good for 3590 s more/);
  await get('known');
});

test('an issuer that is away at the start is asked once a cool-down', async () => {
  const { state, get } = await rig();
  state.away = true;
  const refused = await Promise.allSettled(Array.from({ length: 50 }, () => get('known')));
  assert.ok(
    refused.every((one) => one.status === 'rejected' && one.reason instanceof KeysUnavailable),
  );
  await assert.rejects(get('known'), KeysUnavailable);
  assert.equal(state.fetches, 1);
  state.away = false;
  state.now += COOLDOWN_MS;
  await get('known');
});

test('a key for encryption signs nothing', async () => {
  const { state, get } = await rig();
  state.keys = [{ ...(await key('known')), use: 'enc' }];
  await assert.rejects(get('known'), errors.JWKSNoMatchingKey);
});
