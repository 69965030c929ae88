import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { connect, createServer } from 'node:tls';
import { SandboxAuthority, SandboxKeys } from './authority.ts';

const NOW = Date.parse('2026-11-21T06:00:00Z');
const HOSTS = ['api.allowed.test', 'wild.test'];

function authority(now = Date.now()): SandboxAuthority {
  return new SandboxAuthority('sbx-1', new SandboxKeys(), HOSTS, now);
}

/** What a client that trusts `certificate` alone says of a server of this name: undefined where it takes it. */
async function verdictOn(t: TestContext, ca: SandboxAuthority, host: string, certificate: string) {
  const server = createServer({ SNICallback: (name, done) => done(null, ca.contextFor(name)) });
  server.on('tlsClientError', () => {}).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // listens on TCP
  const socket = connect({ port, host: '127.0.0.1', servername: host, ca: [certificate] });
  const verdict = await new Promise<string | undefined>((resolve) => {
    socket.once('secureConnect', () => resolve(undefined));
    socket.once('error', (error: Error) => resolve(error.message));
  });
  socket.destroy();
  return verdict;
}

test('a client that trusts the CA takes its certificates for the hosts and what is below them', async (t) => {
  const ca = authority();
  for (const host of ['api.allowed.test', 'a.wild.test', 'a.b.wild.test'])
    assert.equal(await verdictOn(t, ca, host, ca.certificate), undefined, host);
});

test('a certificate for any other name is not taken, though the same CA signed it', async (t) => {
  const ca = authority();
  for (const host of ['evil.test', 'notwild.test', 'allowed.test'])
    assert.match((await verdictOn(t, ca, host, ca.certificate)) ?? '', /permitted subtree/, host);
});

test("another sandbox's CA is not taken", async (t) => {
  const [ca, other] = [authority(), authority()];
  assert.match(
    (await verdictOn(t, ca, 'api.allowed.test', other.certificate)) ?? '',
    /unable to verify|signature|self-signed/,
  );
});

test('the CA lives a day, has no other to sign, and both sides name their keys', () => {
  const ca = authority(NOW);
  const parsed = new X509Certificate(ca.certificate);
  assert.equal(parsed.subject, 'CN=Outrider sbx-1');
  assert.equal(parsed.ca, true);
  assert.ok(parsed.checkIssued(parsed) && parsed.verify(parsed.publicKey));
  assert.equal(Date.parse(parsed.validTo) - NOW, 24 * 3_600_000);
  assert.ok(Date.parse(parsed.validFrom) < NOW);
  const text = parsed.raw.toString('latin1');
  for (const host of HOSTS) assert.ok(text.includes(host), 'it names its hosts');
});

test('a context is made once for each host, and of many the ones used last are kept', () => {
  const ca = authority();
  const first = ca.contextFor('api.allowed.test');
  assert.equal(ca.contextFor('api.allowed.test'), first);
  for (let at = 0; at < 127; at += 1) ca.contextFor(`h${at}.wild.test`);
  assert.equal(ca.contextFor('api.allowed.test'), first);
  for (let at = 0; at < 128; at += 1) ca.contextFor(`i${at}.wild.test`);
  assert.notEqual(ca.contextFor('api.allowed.test'), first);
});
