import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { closeServer, listen } from '#core/http';
import { selfSigned } from '#core/testing/pki';
import { command, type Place, startFleet } from '../support/fleet.ts';
import { Replica } from '../support/replica.ts';

// What a gateway does that depends on an identity provider: the process, its exit code and its last line.

const FREE_PORT = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const;
const GIVES_UP_AFTER_MS = 30_000;

/** Discovery and introspection, as far as a start needs them. */
const answering =
  (url: () => string): RequestListener =>
  (request, response) => {
    request.resume();
    const document = { issuer: url(), jwks_uri: `${url()}/keys` };
    response.end(JSON.stringify(request.url === '/introspect' ? { active: false } : document));
  };
const silent: RequestListener = (request) => void request.resume();

async function placeOf(t: TestContext): Promise<Place> {
  const fleet = await startFleet({ gateways: 0, backends: 0 });
  t.after(() => fleet.stop());
  return fleet.place;
}

async function startProvider(
  t: TestContext,
  listener: (url: () => string) => RequestListener,
  tls?: { key: Buffer; cert: Buffer },
): Promise<string> {
  let url = '';
  const server = tls
    ? createHttps(
        tls,
        listener(() => url),
      )
    : createHttp(listener(() => url));
  const address = await listen(server, FREE_PORT);
  t.after(() => closeServer(server));
  assert.ok(address.kind === 'tcp');
  url = `${tls ? 'https' : 'http'}://127.0.0.1:${address.port}`;
  return url;
}

/** A gateway that trusts the provider, and how its start ended. */
async function start(
  t: TestContext,
  { directory, env }: Place,
  issuer: object,
  more: Readonly<Record<string, string>> = {},
) {
  const gateway = new Replica({
    argv: () => [
      ...command(false),
      'gateway',
      '--listen',
      '127.0.0.1:0',
      '--audit',
      join(directory, 'audit.jsonl'),
      '--issuers',
      JSON.stringify([{ audience: 'gateway', ...issuer }]),
    ],
    env: { ...env, ...more },
    startsWithinMs: 2 * GIVES_UP_AFTER_MS,
  });
  const from = performance.now();
  const started = await gateway.start().then(
    () => true,
    () => false,
  );
  t.after(() => gateway.end('SIGKILL'));
  return {
    started,
    ms: performance.now() - from,
    code: gateway.exitCode,
    line: gateway.said.split('\n').find((line) => line.startsWith('outrider gateway: ')),
  };
}

const asked = (url: string, { directory }: Place) => {
  const secret = join(directory, 'secret');
  writeFileSync(secret, 'hunter2', { mode: 0o600 });
  return {
    issuer: url,
    introspection: `${url}/introspect`,
    introspectionClient: 'gateway',
    introspectionSecretFile: secret,
  };
};

for (const [way, issuer] of [
  ['discovery', (url: string) => ({ issuer: url })],
  ['introspection', asked],
] as const) {
  test(`B4: with ${way} a gateway starts where its provider answers`, async (t) => {
    const place = await placeOf(t);
    const { started, line } = await start(
      t,
      place,
      issuer(await startProvider(t, answering), place),
    );
    assert.equal(started, true, line);
  });

  test(`B4: with ${way} a provider that cannot be reached ends the start with exit code 2 and ERR_OAUTH_PROVIDER`, async (t) => {
    const place = await placeOf(t);
    const { code, line } = await start(t, place, issuer('http://127.0.0.1:1', place));
    assert.equal(code, 2);
    assert.match(line ?? '', /ERR_OAUTH_PROVIDER: the identity provider http:\/\/127\.0\.0\.1:1 /);
    assert.doesNotMatch(line ?? '', /hunter2/);
  });

  test(`B4: with ${way} a provider with a certificate of its own making is refused, unless the machine trusts it`, async (t) => {
    const place = await placeOf(t);
    const { certFile, ...tls } = selfSigned(t);
    const url = await startProvider(t, answering, tls);
    const { code, line } = await start(t, place, issuer(url, place));
    assert.equal(code, 2);
    assert.match(line ?? '', /ERR_OAUTH_PROVIDER/);
    const trusted = await start(t, place, issuer(url, place), { NODE_EXTRA_CA_CERTS: certFile });
    assert.equal(trusted.started, true, trusted.line);
  });

  test(`B4: with ${way} a provider that hangs is given up after 30 s`, async (t) => {
    const place = await placeOf(t);
    const url = await startProvider(t, () => silent);
    const { code, ms, line } = await start(t, place, issuer(url, place));
    assert.equal(code, 2);
    assert.match(line ?? '', /ERR_OAUTH_PROVIDER/);
    assert.ok(ms >= GIVES_UP_AFTER_MS, `${ms} ms`);
  });
}
