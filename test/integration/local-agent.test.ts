import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { uidOf } from '#core/mesh-user';
import { startExampleApi } from '../support/example-api.ts';
import { startIssuer } from '../support/issuer.ts';
import { searchMemory } from '../support/memory.ts';
import { startMesh, until } from '../support/mesh.ts';

// A runner whose key the proxy need not trust: it shows the user's access token, and gets execution tokens for it.

const SECRET = 'datasource-secret-1f60cc3e';
const AUDIENCE = 'https://proxy.example';
const isRoot = process.getuid?.() === 0;
const PROGRAM = `
import os, sys, urllib.request
print(urllib.request.urlopen(os.environ["OUTRIDER_URL"] + "/http/example/items").status, flush=True)
sys.stdin.read()
`;

async function mesh(t: TestContext) {
  const issuer = await startIssuer(t, AUDIENCE);
  const directory = mkdtempSync(join(tmpdir(), 'o-login-'));
  chmodSync(directory, 0o755);
  t.after(() => rmSync(directory, { recursive: true }));
  const tokenFile = join(directory, 'access-token');
  const started = await startMesh({
    policy: (text, file) =>
      file === 'role-analyst.yaml'
        ? text.replace('  members:\n', `  members:\n    - {issuer: "${issuer.url}", group: data}\n`)
        : text,
    env: {
      OUTRIDER_RUNNER_EXCHANGE_TOKEN_FILE: tokenFile,
      OUTRIDER_PROXY_ISSUERS: JSON.stringify([{ issuer: issuer.url, audience: AUDIENCE }]),
    },
  });
  t.after(() => started.stop());
  started.writeSecret('example-api-token', SECRET);
  const api = await startExampleApi(started.ports.example, SECRET);
  t.after(() => api.close());
  const logIn = (token: string): void => {
    writeFileSync(tokenFile, token, { mode: 0o600 });
    const uid = uidOf('auto');
    if (isRoot && uid !== 0) chownSync(tokenFile, uid, uid);
  };
  return { issuer, api, started, logIn };
}

test('F4: a program of a user who is logged in reaches what the user may, and the user’s token goes no further than runner and proxy', async (t) => {
  const { issuer, api, started, logIn } = await mesh(t);
  const broad = await issuer.token();
  logIn(broad);
  const program = started.sdk.start(PROGRAM, { timeoutMs: 60_000 });
  let said = '';
  const end = (async () => {
    for await (const event of program.events)
      if (event.stream === 'end') return event.end;
      else said += event.data.toString();
    return undefined;
  })();
  await until('it has asked', () => said !== '');
  assert.equal(said, '200\n');
  assert.equal(api.asked.length, 1);
  const record = started.audit('proxy').findLast(({ event }) => event === 'request');
  assert.equal(record?.['issuer'], issuer.url);
  assert.equal(record?.['subject'], 'alice');
  const exchanged = started.audit('proxy').filter(({ event }) => event === 'auth');
  assert.ok(exchanged.length > 0 && exchanged.every(({ verdict }) => verdict === 'allow'));
  if (isRoot) {
    const mayHoldIt = [started.part('runner'), started.part('proxy')];
    const others = started.processes().filter(({ pid }) => !mayHoldIt.includes(pid));
    const searched = others.map(({ pid }) => searchMemory(pid, { broad: broad.slice(-60) }));
    assert.ok(searched.length >= 4 && searched.some(({ bytes }) => bytes > 2 ** 20));
    assert.deepEqual(
      searched.flatMap(({ found }) => found),
      [],
    );
  }
  program.closeStdin();
  assert.equal((await end)?.exitCode, 0);
  assert.ok(!started.log().includes(broad));
});

test('without a token, with one that has expired, and with one of a user without the role nothing is started', async (t) => {
  const { issuer, api, started, logIn } = await mesh(t);
  const run = () =>
    started.sdk.run('print(1)').then(
      () => 'ran',
      (error: { metadata?: { get(name: string): unknown[] } }) =>
        error.metadata?.get('outrider-error-code')[0],
    );
  assert.equal(await run(), 'UNAUTHENTICATED');
  logIn(await issuer.token({ exp: Math.floor(Date.now() / 1_000) - 60 }));
  assert.equal(await run(), 'UNAUTHENTICATED');
  logIn(await issuer.token({ groups: ['sales'] }));
  assert.equal(await run(), 'ROLE_DENIED');
  logIn(await issuer.token());
  assert.equal(await run(), 'ran');
  assert.equal(api.asked.length, 0);
});
