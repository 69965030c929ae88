import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { HOST, type PublicHost, type Said, startPublicHost } from '../support/public-host.ts';

// The way out to a public host, with real names, addresses and TLS. Needs root, iproute2, nsenter and openssl.

const ALLOWED = ['site', 'loop', 'mixed', 'flips', 'unknown'].map((name) => `${name}.example.com`);
/** What the name server answers, one list after the other. */
const NAMES = {
  'site.example.com': [[HOST]],
  'other.example.com': [[HOST]],
  'loop.example.com': [['127.0.0.1']],
  'mixed.example.com': [[HOST, '10.0.0.1']],
  'flips.example.com': [[HOST], ['127.0.0.1']],
};

let host: PublicHost;
let mesh: RunningMesh;
const said: Said[] = [];

before(async () => {
  host = await startPublicHost(NAMES, (what) => said.push(what));
  mesh = await startMesh({
    within: host.within,
    env: host.env,
    policy: (text, file) => {
      if (file === 'boundary.yaml')
        return text.replace('[example.com]', `[example.com, ${ALLOWED.join(', ')}]`);
      if (file === 'egress-analyst.yaml')
        return text
          .replace('hosts: [example.com]', `hosts: [example.com, ${ALLOWED.join(', ')}]`)
          .replace('rate: 30/min, concurrent: 2', 'rate: 6000/min, burst: 100, concurrent: 20');
      return text;
    },
  });
});
after(async () => {
  await mesh?.stop();
  await host?.stop();
});

/** Asks for https://NAME/ through the proxy variables, trusting the host's certificate; prints the answer or the error. */
async function get(name: string): Promise<string> {
  const code = `
import ssl, sys, urllib.request
try: print(urllib.request.urlopen("https://" + sys.argv[1] + "/", context=ssl.create_default_context(cafile="ca.pem"), timeout=10).read().decode())
except OSError as error: print("refused:", error)
`;
  const { stdout, stderr } = await mesh.sdk.run(code, {
    args: [name],
    files: { 'ca.pem': host.certificate },
  });
  assert.equal(stderr, '');
  return stdout.trim();
}

test('a public host that a rule names is reached from the sandbox, with TLS from end to end', async () => {
  assert.equal(await get('site.example.com'), `hello from ${HOST}`);
  await until('the audit has it', () =>
    mesh
      .audit('proxy')
      .some(
        ({ target, verdict, rule }) =>
          target === 'site.example.com:443' && verdict === 'allow' && rule === 'example-site',
      ),
  );
});

/** Each of these opens a tunnel that a rule allows, or asks for one; none may reach the host. */
const refusals: readonly (readonly [string, string, string])[] = [
  ['a name that leads to loopback', 'loop.example.com', 'resolved_ip_forbidden'],
  ['a name of which one address is private', 'mixed.example.com', 'resolved_ip_forbidden'],
  ['a name that does not exist', 'unknown.example.com', 'dns_failed'],
  ['a name that no rule names, at the same address', 'other.example.com', 'host_not_allowed'],
];
for (const [what, name, reason] of refusals)
  test(`${what} is refused, and nothing is dialled`, async () => {
    const earlier = said.length;
    assert.match(await get(name), /^refused: /);
    const later = said.slice(earlier);
    assert.deepEqual(
      later.filter(({ connected }) => connected !== undefined),
      [],
    );
    // What the sidecar refuses is not even looked up; the rest was asked for by the proxy alone.
    assert.equal(
      later.some(({ asked }) => asked === name),
      reason !== 'host_not_allowed',
    );
    await until(`the audit says ${reason}`, () =>
      mesh
        .audit(reason === 'host_not_allowed' ? 'sidecar' : 'proxy')
        .some((record) => record['target'] === `${name}:443` && record['reason'] === reason),
    );
  });

test('a name that flips to loopback after the first answer is reached once and refused then', async () => {
  assert.equal(await get('flips.example.com'), `hello from ${HOST}`);
  const earlier = said.length;
  assert.match(await get('flips.example.com'), /^refused: /);
  assert.deepEqual(
    said.slice(earlier).filter(({ connected }) => connected !== undefined),
    [],
  );
});

test('another server name inside an allowed tunnel is cut before the host hears of it', async () => {
  const earlier = said.length;
  const { stdout } = await mesh.sdk.run(`
import socket, ssl
for name in ("site.example.com", "other.example.com", None):
    tunnel = socket.create_connection(("127.0.0.1", 3128), timeout=10)
    tunnel.sendall(b"CONNECT site.example.com:443 HTTP/1.1\\r\\nHost: site.example.com:443\\r\\n\\r\\n")
    head = tunnel.recv(4096).split()[1].decode()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try: print(name, head, context.wrap_socket(tunnel, server_hostname=name).version())
    except OSError as error: print(name, head, "cut")
`);
  assert.deepEqual(stdout.trim().split('\n'), [
    'site.example.com 200 TLSv1.3',
    'other.example.com 200 cut',
    'None 200 cut',
  ]);
  const dialled = said.slice(earlier).filter(({ connected }) => connected !== undefined);
  assert.deepEqual(dialled, [{ connected: HOST }]);
});

test('nothing but the proxy is in the way: the sandbox itself has no interface to the host', async () => {
  const { stdout } = await mesh.sdk.run(`
import socket
print([line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line])
try: socket.create_connection(("${HOST}", 443), 5); print("reached")
except OSError as error: print(error.strerror)
`);
  assert.equal(stdout, "['lo']\nNetwork is unreachable\n");
});
