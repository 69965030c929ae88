import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { HOST, type PublicHost, type Said, startPublicHost } from '../support/public-host.ts';

// Programs inside a sandbox that speak https to a public host through interception: unmodified clients trust the sandbox's CA, rules
// look at methods and paths, the proxy injects a credential. Needs root, iproute2, nsenter, openssl, curl and git.

const SECRET = 'canary-c29tZSBzZWNyZXQ-interception';
const NAMES = {
  'api.example.com': [[HOST]],
  'other.example.com': [[HOST]],
  'opaque.example.com': [[HOST]],
};

let host: PublicHost;
let mesh: RunningMesh;
const said: Said[] = [];

before(async () => {
  host = await startPublicHost(NAMES, (what) => said.push(what));
  mesh = await startMesh({
    within: host.within,
    env: { ...host.env, OUTRIDER_PROXY_TLS_CA_FILE: host.certificateFile, API_TOKEN: SECRET },
    policy: (text, file) => {
      if (file === 'boundary.yaml')
        return text.replace('[example.com]', '[api.example.com, opaque.example.com, example.com]');
      if (file !== 'egress-analyst.yaml') return text;
      const rules = `
    - {id: api, hosts: [api.example.com], methods: [GET, POST], paths: ["/v1/**"], credential: api-token}
    - {id: opaque, hosts: [opaque.example.com], protocols: [tunnel]}
`;
      const binding = `
---
apiVersion: outrider/v1
kind: CredentialBinding
metadata: {name: api-token}
spec: {secretRef: "env:API_TOKEN", hosts: [api.example.com], paths: ["/v1/**"], inject: {header: authorization, format: "Bearer {secret}"}}
`;
      return text.replace('  allow:\n', `  allow:${rules}`) + binding;
    },
  });
});
after(async () => {
  await mesh?.stop();
  await host?.stop();
});

type Language = 'python' | 'javascript' | 'shell';

/** Each fetches argv[1] with an Authorization of its own and prints the status and the body. */
const CLIENTS: readonly (readonly [name: string, language: Language, program: string])[] = [
  [
    'Python urllib',
    'python',
    `
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer mine"})
try: answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error: answer = error
print(answer.status, answer.read().decode())
`,
  ],
  [
    'Python http.client',
    'python',
    `
import http.client, sys, urllib.parse
url = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPSConnection("127.0.0.1", 3128, timeout=10)
connection.set_tunnel(url.hostname, 443)
connection.request("GET", url.path, headers={"Authorization": "Bearer mine"})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
`,
  ],
  [
    'a warm Node, fetch',
    'javascript',
    `
const answer = await fetch(process.argv[2], { headers: { authorization: 'Bearer mine' } });
console.log(answer.status, await answer.text());
`,
  ],
  [
    'a warm Node, node:https',
    'javascript',
    `
import { get } from 'node:https';
get(process.argv[2], { headers: { authorization: 'Bearer mine' } }, (answer) => {
  let body = '';
  answer.on('data', (chunk) => (body += chunk)).on('end', () => console.log(answer.statusCode, body));
});
`,
  ],
  [
    'another Node',
    'shell',
    `node -e 'fetch(process.argv[1], {headers: {authorization: "Bearer mine"}}).then(async (a) => console.log(a.status, await a.text()))' "$1"`,
  ],
  [
    'curl',
    'shell',
    `body=$(curl -sS -o /tmp/body -w '%{http_code}' -H 'Authorization: Bearer mine' "$1"); echo "$body $(cat /tmp/body)"`,
  ],
];

for (const [name, language, program] of CLIENTS)
  test(`E5: ${name}: an allowed request reaches the host with the credential, and nothing else does`, async () => {
    const profile = /\bNode\b/.test(name) ? 'node' : 'python';
    const fetched = async (url: string) => {
      const { stdout, stderr } = await mesh.sdk.run(program, { language, profile, args: [url] });
      assert.equal(stderr, '', url);
      return stdout.trim();
    };
    const earlier = said.length;
    assert.equal(await fetched('https://api.example.com/v1/items'), `200 hello from ${HOST}`);
    const requests = said.slice(earlier).flatMap(({ request }) => request ?? []);
    assert.deepEqual(
      requests.map(({ method, url, headers }) => [method, url, headers['authorization']]),
      [['GET', '/v1/items', `Bearer ${SECRET}`]],
    );
    const refused = said.length;
    assert.match(await fetched('https://api.example.com/v2/items'), /^403 .*path_not_allowed/);
    assert.deepEqual(said.slice(refused), [], 'what is refused is neither looked up nor dialled');
  });

test('what the CA does not sign for, no client takes, and a host without a rule is refused before', async () => {
  const { stdout } = await mesh.sdk.run(
    `
for url in https://other.example.com/v1/x https://api.example.com:8443/v1/x; do
  curl -sS -o /dev/null "$url" 2>&1 || echo "exit $?"
done
`,
    { language: 'shell' },
  );
  const refused = 'curl: (56) CONNECT tunnel failed, response 403\nexit 56\n';
  assert.equal(stdout, refused + refused);
});

test('an opaque tunnel stays opaque: the program sees the certificate of the host itself', async () => {
  const { stdout } = await mesh.sdk.run(
    `
import os, ssl, urllib.request
print(open(os.environ["SSL_CERT_FILE"]).read().count("BEGIN CERTIFICATE") > 50)
context = ssl.create_default_context(cafile="host.pem")
print(urllib.request.urlopen("https://opaque.example.com/any", context=context, timeout=10).read().decode())
try: urllib.request.urlopen("https://opaque.example.com/any", timeout=10)
except OSError as error: print("self-signed" in str(error))
`,
    { files: { 'host.pem': host.certificate } },
  );
  assert.deepEqual(stdout.trim().split('\n'), ['True', `hello from ${HOST}`, 'True']);
});

test('E7: one request has one record of the sidecar and one of the proxy, joined, with rule and credential', async () => {
  const url = 'https://api.example.com/v1/audited';
  await mesh.sdk.run(
    `import urllib.request; urllib.request.urlopen("${url}", data=b"x", timeout=10).read()`,
  );
  const recorded = (part: string) => mesh.audit(part).filter(({ target }) => target === url);
  await until('both have it', () =>
    ['sidecar', 'proxy'].every((part) => recorded(part).length > 0),
  );
  const [inner, ...more] = recorded('sidecar');
  const [outer, ...others] = recorded('proxy');
  assert.deepEqual([...more, ...others], []);
  assert.equal(inner?.['egressId'], outer?.['egressId']);
  for (const record of [inner, outer]) {
    assert.equal(record?.['rule'], 'api');
    assert.equal(record['credential'], 'api-token');
    assert.equal(record['verdict'], 'allow');
    assert.equal(record['method'], 'POST');
  }
  assert.equal(inner?.['ingress'], 'intercept');
});

test('a client that does not trust the CA is told nothing, and the audit says why', async () => {
  const { stdout } = await mesh.sdk.run(
    'curl -sS --cacert /etc/ssl/certs/ca-certificates.crt https://api.example.com/v1/x; echo $?',
    { language: 'shell' },
  );
  assert.match(stdout, /^60$/m);
  await until('the audit has it', () =>
    mesh
      .audit('sidecar')
      .some(({ reason, ingress }) => reason === 'tls_error' && ingress === 'connect'),
  );
});
