import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { HOST, type PublicHost, type Said, startPublicHost } from '../support/public-host.ts';
import { makeLargeProject, makeSites } from './clients-sites.ts';

// The library's policies of package registries, as they stand there but for the places: what pip and npm ask for passes, from registries
// whose files are at another host, and nothing can be published. Needs root, iproute2, nsenter, openssl, git, pip and npm.

const directory = mkdtempSync(join(tmpdir(), 'o-registries-'));
const [NPM, PIP, FILES] = ['npm.example.com', 'pypi.example.com', 'files.example.com'] as const;
/** More than a registry's rule may let pass in a second, and twice as many requests. */
const LARGE = 400;

let host: PublicHost;
let mesh: RunningMesh;
let said: Said[] = [];
let project: Record<string, string>;

before(async () => {
  makeSites(directory);
  project = makeLargeProject(directory, LARGE);
  const serving = { script: join(import.meta.dirname, 'clients-host.ts'), argv: [directory] };
  const names = Object.fromEntries([NPM, PIP, FILES].map((name) => [name, [[HOST]]]));
  host = await startPublicHost(names, (what) => said.push(what), serving);
  mesh = await startMesh({
    within: host.within,
    env: {
      ...host.env,
      OUTRIDER_PROXY_TLS_CA_FILE: host.certificateFile,
      OUTRIDER_RUNNER_PIP_INDEX: `https://${PIP}/simple/`,
      OUTRIDER_RUNNER_NPM_REGISTRY: `https://${NPM}/`,
    },
    policy: (text, file) => {
      if (file === 'boundary.yaml')
        return text
          .replace('[example.com]', `[example.com, ${NPM}, ${PIP}, ${FILES}]`)
          .replace('requireTests: true', 'requireTests: false');
      if (file === 'role-analyst.yaml') return `${text}${roles()}`;
      return file === 'egress-analyst.yaml' ? `${text}${policies()}` : text;
    },
  });
});
after(async () => {
  await mesh?.stop();
  await host?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** One installs before its programs run; the programs of the other install for themselves. */
function roles(): string {
  return ['builder', 'developer']
    .map(
      (name) => `---
apiVersion: outrider/v1
kind: Role
metadata: {name: ${name}}
spec:
  members: [{issuer: outrider:local}]
  sandbox: {profiles: [python, node], timeout: 60s, disk: 256MiB, dependencies: {managers: [pip, npm]}}
`,
    )
    .join('');
}

function policies(): string {
  const places = [
    ['npm', NPM],
    ['npm', FILES],
    ['pip', PIP],
    ['pip', FILES],
  ] as const;
  const documents = places.flatMap(([entry, place], at) => {
    const file = join(packageRoot, 'policies/library', entry, 'https/policy.yaml');
    const text = readFileSync(file, 'utf8')
      .replace(`${entry}.example.com`, place)
      .replace('[8443]', '[443]')
      .replace(`example-role-${entry}`, `registry-${at}`);
    const builder = text.replace('example-role', 'builder');
    const developer = text
      .replace('example-role', 'developer')
      .replace(`registry-${at}`, `registry-run-${at}`)
      .replace('  phase: install\n', '');
    return [builder, developer];
  });
  return documents.map((text) => `---\n${text}`).join('');
}

test('pip and npm install what a program needs, before it runs, and it cannot reach the registry', async () => {
  const { stdout, stderr } = await mesh.sdk.run(
    `import greet, urllib.request
try: urllib.request.urlopen("https://${PIP}/simple/greet/", timeout=10)
except OSError as error: print(error)
`,
    { role: 'builder', dependencies: [{ manager: 'pip', requirement: 'greet' }] },
  );
  assert.equal(stderr, '');
  assert.equal(
    stdout,
    'hello noun\n<urlopen error Tunnel connection failed: 403 Forbidden (Outrider: no_policy)>\n',
  );
  const node = await mesh.sdk.run("import 'left-hand';", {
    role: 'builder',
    profile: 'node',
    language: 'javascript',
    dependencies: [{ manager: 'npm', requirement: 'left-hand@^1.0.0' }],
  });
  assert.equal(node.stdout, 'left side\n', node.stderr);
});

test(`npm ci of a project with ${LARGE} dependencies is not limited, and nothing can be published`, async () => {
  const { stdout, stderr } = await mesh.sdk.run(
    `npm ci --no-audit --no-fund --loglevel error && ls node_modules | grep -c many
npm publish --registry https://${NPM}/ --//${NPM}/:_authToken=x`,
    { role: 'developer', profile: 'node', language: 'shell', files: project, timeoutMs: 60_000 },
  );
  assert.match(stdout, new RegExp(`added ${LARGE} packages[^]*^${LARGE}$`, 'm'), stderr);
  assert.match(stderr, /405 Method Not Allowed \(Outrider: method_not_allowed\)|403 Forbidden/);
  assert.ok(said.every(({ request }) => request === undefined || request.method === 'GET'));
});

test('pip install of a requirements file comes from the index and the host of its files', async () => {
  said = [];
  const { stdout, stderr } = await mesh.sdk.run(
    `python3 -m pip install -q --no-cache-dir --target lib --index-url https://${PIP}/simple/ -r requirements.txt
PYTHONPATH=lib python3 -c 'import greet'`,
    {
      role: 'developer',
      language: 'shell',
      files: { 'requirements.txt': 'greet==1.0\nnouns>=2\n' },
    },
  );
  assert.equal(stdout, 'hello noun\n', stderr);
  const hosts = said.flatMap(({ request }) => (request ? [new URL(request.url).host] : []));
  assert.deepEqual([...new Set(hosts)].toSorted(), [FILES, PIP]);
});

test('each request of an install is recorded with the rule that let it pass', async () => {
  await until('the audit has them', () =>
    ['npm-registry', 'pip-registry'].every((rule) =>
      mesh
        .audit('proxy')
        .some((record) => record['rule'] === rule && record['verdict'] === 'allow'),
    ),
  );
});
