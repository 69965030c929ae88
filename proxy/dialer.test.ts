import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createSecureContext, rootCertificates } from 'node:tls';
import { parseIp, probeGrant } from '#policies';
import { loadFiles } from '#policystore';
import { CheckedAddresses } from './addresses.ts';
import { Breakers } from './breaker.ts';
import type { DialOptions } from './dial.ts';
import { createDialer } from './dialer.ts';
import { BOUNDARY, CERTIFICATE, datasource, egressPolicy, ROLE, startOrigin } from './testing.ts';

type Tls = NonNullable<DialOptions['tls']>;

const HOST = 'localhost';
const TRUSTS = createSecureContext({ ca: CERTIFICATE });
const DOUBTS = createSecureContext({ ca: rootCertificates[0] ?? '' });
const CALL: Tls = { host: HOST, context: TRUSTS };

function loopback(): CheckedAddresses {
  const documents = [
    ROLE,
    BOUNDARY,
    egressPolicy([{ id: 'api', datasource: 'http/api' }]),
    datasource('http', 'api', 'https://localhost'),
  ].map((one) => JSON.stringify({ apiVersion: 'outrider/v1', ...one }));
  const { set } = loadFiles([{ name: 'policy.yaml', text: `---\n${documents.join('\n---\n')}\n` }]);
  const grant = probeGrant(set, 'http/api');
  const address = parseIp('127.0.0.1');
  assert.ok(grant && address);
  return CheckedAddresses.check(grant, [address]);
}

/** Dials one server with TLS and HTTP/1.1; says what came of it. */
async function rig(t: TestContext) {
  const { port } = await startOrigin(t, undefined, { tls: true });
  const addresses = loopback();
  const dial = createDialer(new Breakers());
  return async (tls: Tls): Promise<string> => {
    try {
      const socket = await dial(HOST, addresses, { port, tls, timeoutMs: 10_000 });
      socket.destroy();
      return 'reached';
    } catch (error) {
      return error instanceof Error ? error.message : 'failed';
    }
  };
}

for (const [what, wrong, right] of [
  ['by a protocol that it does not offer', { ...CALL, protocols: ['h2'] }, CALL],
  [
    'by an authority that does not vouch for it',
    { ...CALL, context: DOUBTS, trustId: 'doubts' },
    { ...CALL, trustId: 'trusts' },
  ],
  [
    'by such an authority, and others by those of the proxy',
    { ...CALL, context: DOUBTS, trustId: 'doubts' },
    CALL,
  ],
] as const)
  test(`whoever asks for an upstream ${what} shuts it for nobody`, async (t) => {
    const ask = await rig(t);
    const first = await ask(wrong);
    assert.notEqual(first, 'reached');
    for (let times = 0; times < 6; times++) assert.equal(await ask(wrong), first);
    assert.equal(await ask(right), 'reached');
  });
