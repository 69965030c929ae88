import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { HOST, type PublicHost, type Said, startPublicHost } from '../support/public-host.ts';
import { makeSites, SITES } from './clients-sites.ts';

// The clients that developers use, unmodified and not told of anything, in a sandbox whose TLS is looked into: each works with the hosts
// that a rule allows, whose certificates are of a CA of their own, and says what a person can read of what is refused.
// Needs root, iproute2, nsenter and openssl, and the clients: wget, git, pip, npm, apt, a JDK, and Debian's python3-requests, python3-httpx,
// awscli and rclone.

const directory = mkdtempSync(join(tmpdir(), 'o-clients-'));
const [GRPC, REFUSED] = ['grpc.example.com', 'refused.example.com'];
const NAMES = Object.fromEntries([...SITES, GRPC, REFUSED].map((name) => [name, [[HOST]]]));
const POLICY = `---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: clients}
spec:
  subjects: [{role: analyst}]
  mode: enforce
  allow:
    - {id: sites, hosts: [${SITES.join(', ')}], methods: [GET, HEAD, POST], paths: any}
    - {id: plain, scheme: http, hosts: [deb.example.com], methods: [GET], paths: any}
    - {id: calls, hosts: [${GRPC}], protocols: [grpc], methods: [POST], paths: ["/test.Echo/*"]}
  deny:
    - {id: private, hosts: [${SITES.join(', ')}], paths: ["/private/**"]}
`;

let host: PublicHost;
let mesh: RunningMesh;
const said: Said[] = [];

before(async () => {
  makeSites(directory);
  const serving = { script: join(import.meta.dirname, 'clients-host.ts'), argv: [directory] };
  host = await startPublicHost(NAMES, (what) => said.push(what), serving);
  mesh = await startMesh({
    within: host.within,
    env: { ...host.env, OUTRIDER_PROXY_TLS_CA_FILE: host.certificateFile },
    policy: (text, file) => {
      if (file === 'boundary.yaml')
        return text
          .replace('[example.com]', `[example.com, ${[...SITES, GRPC].join(', ')}]`)
          .replace('requireTests: true', 'requireTests: false');
      if (file === 'role-analyst.yaml')
        return text.replace('pids: 64', 'pids: 256').replace('disk: 64MiB', 'disk: 256MiB');
      return file === 'egress-analyst.yaml' ? text + POLICY : text;
    },
  });
});
after(async () => {
  await mesh?.stop();
  await host?.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Client {
  readonly name: string;
  /** A shell program that is given a URL. */
  readonly program: string;
  readonly files?: () => Record<string, string | Uint8Array>;
  /** What it is given: of an allowed host, and there what is allowed and what is denied. */
  readonly site: string;
  readonly open: string;
  /** What is seen of each. */
  readonly works: RegExp;
  readonly hostRefused: RegExp;
  readonly pathRefused: RegExp;
  readonly distrusts: RegExp;
  /** Takes the trust away; by default every variable that names a file of the sandbox's. */
  readonly untrust?: string;
}

const UNTRUST = 'unset $(env | grep =/run/outrider/ | cut -d= -f1)';

const CLIENTS: readonly Client[] = [
  {
    name: 'Python requests',
    program: `python3 -c '
import sys, requests
answer = requests.get(sys.argv[1], timeout=10)
print(answer.status_code, answer.text)' "$1"`,
    site: 'api.example.com',
    open: '/open/hello.txt',
    works: /^200 hello\n/,
    hostRefused: /ProxyError.*403 Forbidden \(Outrider: host_not_allowed\)/,
    pathRefused: /^403 .*no rule allows this path of the host/,
    distrusts: /SSLError.*certificate verify failed/,
  },
  {
    name: 'Python urllib that checks certificates as Python 3.13 does',
    program: `python3 -c '
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
try: answer = urllib.request.urlopen(sys.argv[1], timeout=10, context=context)
except urllib.error.HTTPError as error: answer = error
print(answer.status, answer.read().decode())' "$1"`,
    site: 'api.example.com',
    open: '/open/hello.txt',
    works: /^200 hello\n/,
    hostRefused: /Tunnel connection failed: 403 Forbidden \(Outrider: host_not_allowed\)/,
    pathRefused: /^403 .*no rule allows this path of the host/,
    distrusts: /certificate verify failed/,
  },
  {
    name: 'Python httpx',
    program: `python3 -c '
import sys, httpx
answer = httpx.get(sys.argv[1], timeout=10)
print(answer.status_code, answer.text)' "$1"`,
    site: 'api.example.com',
    open: '/open/hello.txt',
    works: /^200 hello\n/,
    hostRefused: /ProxyError: 403 Forbidden \(Outrider: host_not_allowed\)/,
    pathRefused: /^403 .*no rule allows this path of the host/,
    distrusts: /ConnectError.*certificate verify failed/,
  },
  {
    name: 'a Node that another profile calls',
    program: `node -e 'fetch(process.argv[1]).then(async (a) => console.log(a.status, await a.text()))' "$1"`,
    site: 'api.example.com',
    open: '/open/hello.txt',
    works: /^200 hello\n/,
    hostRefused: /fetch failed[^]*Proxy response \(403\)/,
    pathRefused: /^403 .*no rule allows this path of the host/,
    distrusts: /fetch failed[^]*unable to verify the first certificate/,
  },
  {
    name: 'wget',
    program: 'wget -nv -t 1 --content-on-error -O - "$1"',
    site: 'api.example.com',
    open: '/open/hello.txt',
    works: /^hello\n/,
    hostRefused: /Proxy tunneling failed: Forbidden \(Outrider: host_not_allowed\)/,
    pathRefused: /ERROR 403: Forbidden \(Outrider: path_not_allowed\)/,
    distrusts: /certificate of .api\.example\.com. is not trusted/,
  },
  {
    name: 'git clone',
    program: 'git clone -q "$1" cloned && cat cloned/README',
    site: 'git.example.com',
    open: '/open.git',
    works: /^hello from git\n/,
    hostRefused: /unable to access 'https:\/\/refused\.example\.com\/.*response 403/,
    pathRefused: /The requested URL returned error: 403/,
    distrusts: /server certificate verification failed/,
  },
  {
    name: 'pip install', // which says why with -vv alone
    program: `python3 -m pip install -vv --target lib --index-url "$1" --retries 0 greet && PYTHONPATH=lib python3 -c 'import greet'`,
    site: 'pypi.example.com',
    open: '/simple/',
    works: /^hello noun$/m,
    hostRefused: /403 Forbidden \(Outrider: host_not_allowed\)/,
    pathRefused: /403 Client Error: Forbidden \(Outrider: path_not_allowed\)/,
    distrusts: /certificate verify failed/,
  },
  {
    name: 'npm install',
    program: `npm install --registry "$1" --fetch-retries 0 left-hand && node --input-type module -e 'import "left-hand"'`,
    site: 'npm.example.com',
    open: '/',
    works: /left side\n/,
    hostRefused: /403 Forbidden \(Outrider: host_not_allowed\)/,
    pathRefused: /403 Forbidden \(Outrider: path_not_allowed\)/,
    distrusts: /unable to verify the first certificate/,
  },
  ...['https', 'http'].map(
    (scheme): Client => ({
      name: `apt with ${scheme}`,
      program: `
mkdir -p apt/state/lists/partial apt/cache/archives/partial
touch apt/status
echo "deb [trusted=yes] $(echo "$1" | sed 's/^https/${scheme}/') stable main" > apt/sources.list
apt() { apt-get -qq -o Acquire::Retries=0 -o Dir::Etc=$PWD/apt -o Dir::State=$PWD/apt/state -o Dir::State::status=$PWD/apt/status -o Dir::Cache=$PWD/apt/cache "$@"; }
apt update && apt download hello-outrider && dpkg-deb --field hello-outrider_1.0_all.deb Package`,
      site: 'deb.example.com',
      open: '',
      works: /hello-outrider\n/,
      hostRefused: /403 +Forbidden \(Outrider: host_not_allowed\)/,
      pathRefused: /403 +Forbidden \(Outrider: path_not_allowed\)/,
      // Over http there is nothing to trust.
      distrusts: scheme === 'https' ? /The certificate is NOT trusted/ : /^hello-outrider$/m,
    }),
  ),
  {
    name: 'Go (rclone)',
    program: 'rclone cat --retries 1 --low-level-retries 1 --http-url "$1" :http:hello.txt',
    site: 'api.example.com',
    open: '/open/',
    works: /^hello\n/,
    hostRefused: /Forbidden \(Outrider: host_not_allowed\)/,
    pathRefused: /HTTP Error: 403 Forbidden/, // it speaks HTTP/2, whose status is a number
    distrusts: /certificate signed by unknown authority/,
  },
  {
    name: 'Java HttpClient',
    program: 'java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp . Get "$1"',
    files: javaProgram,
    site: 'api.example.com',
    open: '/open/hello.txt',
    works: /^200 hello\n/,
    hostRefused: /IOException: Tunnel failed, got: 403/,
    pathRefused: /^403 .*no rule allows this path of the host/,
    distrusts: /unable to find valid certification path/,
    untrust: 'export JAVA_TOOL_OPTIONS="${JAVA_TOOL_OPTIONS%% -Djavax*}"',
  },
  {
    name: 'AWS CLI',
    program: `export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=y AWS_DEFAULT_REGION=us-east-1 AWS_MAX_ATTEMPTS=1
aws s3 ls --endpoint-url "$1"`,
    site: 's3.example.com',
    open: '/',
    works: / reports\n/,
    hostRefused: /Failed to connect to proxy URL/,
    pathRefused:
      /An error occurred \(AccessDenied\) when calling the ListBuckets operation.*: no rule allows this path of the host \(Outrider: path_not_allowed, rule \w+\)/,
    distrusts: /SSL validation failed/,
  },
  {
    name: 'grpc-js',
    program: 'tar -xzf modules.tar.gz && node call.cjs "$1"',
    files: grpcProgram,
    site: GRPC,
    open: '/test.Echo/Say',
    works: /^hello\n/,
    hostRefused: /through proxy 127\.0\.0\.1:3128 with status 403/,
    pathRefused: /^PERMISSION_DENIED .*no rule allows this path of the host/,
    distrusts: /^UNAVAILABLE .*unable to verify the first certificate/,
  },
];

/** The package as it is installed here, and a call by it. */
function grpcProgram(): Record<string, string | Uint8Array> {
  const modules = ['@grpc/grpc-js', '@js-sdsl/ordered-map'].map((name) => `node_modules/${name}`);
  const leaveOut = ['--exclude=*.map', '--exclude=*.ts', '--exclude=*.proto'];
  const archive = execFileSync('tar', ['-cz', '-C', packageRoot, ...leaveOut, ...modules]);
  const call = `
const { Client, Metadata, credentials, status } = require('@grpc/grpc-js');
const { host, pathname } = new URL(process.argv[2]);
const client = new Client(host, credentials.createSsl());
const as = (bytes) => bytes;
const options = { deadline: Date.now() + 8000 };
client.makeUnaryRequest(pathname, as, as, Buffer.from('hello'), new Metadata(), options, (error, answer) =>
  console.log(error ? status[error.code] + ' ' + error.details : String(answer)));
`;
  return { 'modules.tar.gz': archive, 'call.cjs': call };
}

function javaProgram(): Record<string, Uint8Array> {
  writeFileSync(
    join(directory, 'Get.java'),
    `import java.net.URI;
import java.net.http.*;
public class Get {
  public static void main(String[] args) throws Exception {
    var request = HttpRequest.newBuilder(URI.create(args[0])).build();
    var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    System.out.println(answer.statusCode() + " " + answer.body());
  }
}
`,
  );
  execFileSync('javac', ['--release', '17', 'Get.java'], { cwd: directory, stdio: 'pipe' });
  return { 'Get.class': readFileSync(join(directory, 'Get.class')) };
}

for (const client of CLIENTS)
  test(`E2: ${client.name}: works with what is allowed, and says what was refused`, async () => {
    const files = client.files?.() ?? {};
    const ask = async (url: string, first = '') => {
      const program = `${first}\n${client.program}`;
      const { stdout, stderr } = await mesh.sdk.run(program, {
        language: 'shell',
        args: [url],
        files,
      });
      return { stdout, said: stdout + stderr };
    };
    const url = `https://${client.site}${client.open}`;
    const open = await ask(url);
    assert.match(open.stdout, client.works, open.said);
    const heardOf = (what: string) =>
      said.some(({ asked, request }) => asked === what || request?.url.includes(what) === true);
    await until('the host has heard of it', () => heardOf(`//${client.site}/`));
    const refused = await ask(url.replace(client.site, REFUSED));
    assert.match(refused.said, client.hostRefused);
    const denied = await ask(`https://${client.site}/private${client.open}`);
    assert.match(denied.said, client.pathRefused);
    // Control: it is the trust that it was given that made it work.
    const untrusting = await ask(url, client.untrust ?? UNTRUST);
    assert.match(untrusting.said, client.distrusts);
    for (const what of [REFUSED, '/private']) assert.ok(!heardOf(what), `nobody heard of ${what}`);
  });
