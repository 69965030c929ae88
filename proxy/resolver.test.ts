import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatIp } from '#policies';
import { createResolver } from './resolver.ts';

function resolverWith(t: TestContext, hosts: string) {
  const directory = mkdtempSync(join(tmpdir(), 'o-resolver-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const hostsFile = join(directory, 'hosts');
  writeFileSync(hostsFile, hosts);
  const resolver = createResolver({ servers: ['127.0.0.1:1'], hostsFile, timeoutMs: 200 });
  t.after(() => resolver.close());
  return { resolver, hostsFile };
}

test('what nobody need be asked for is known at once, and is the same answer each time', async (t) => {
  const { resolver } = resolverWith(t, '192.0.2.7 here.example\n');
  const texts = { '192.0.2.1': ['192.0.2.1'], 'here.example': ['192.0.2.7'], '::1': ['::1'] };
  for (const [host, expected] of Object.entries(texts)) {
    const known = resolver.known(host);
    assert.deepEqual(known?.map(formatIp), expected);
    assert.equal(resolver.known(host), known);
    assert.equal(await resolver.resolve(host), known);
  }
  assert.deepEqual(resolver.known('localhost')?.map(formatIp), ['127.0.0.1', '::1']);
});

test('a name that must be asked for is not known', async (t) => {
  const { resolver } = resolverWith(t, '');
  assert.equal(resolver.known('elsewhere.example'), undefined);
  await assert.rejects(resolver.resolve('elsewhere.example'), /could not be resolved/);
  assert.equal(resolver.known('elsewhere.example'), undefined);
});

test('a hosts file that has changed is another answer', (t) => {
  const { resolver, hostsFile } = resolverWith(t, '192.0.2.7 here.example\n');
  const before = resolver.known('here.example');
  writeFileSync(hostsFile, '192.0.2.8 here.example\n');
  utimesSync(hostsFile, 1, 1); // whatever the grain of the file system's clock
  const after = resolver.known('here.example');
  assert.deepEqual(after?.map(formatIp), ['192.0.2.8']);
  assert.notEqual(after, before);
});
