import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadDirectory } from '#policystore';
import { until } from '../support/mesh.ts';
import { takesOnlySignedBundles } from './bundle-case.ts';
import { clientHello } from './hello.ts';
import { outcomeOf, saw } from './judge.ts';
import { connectHead, exchanged, opened, type Step } from './steps.ts';
import type { World } from './world.ts';

/** What is wrong, as sentences; none where the policy loader does what the case wants. */
type ConfigCase = (world: World) => Promise<readonly string[]>;

/** A file that is sound, of which each case changes one thing. */
const SOUND = `apiVersion: outrider/v1
kind: Role
metadata: {name: analyst}
spec: {members: [{issuer: "outrider:local"}], sandbox: {}}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: analyst}
spec:
  subjects: [{role: analyst}]
  mode: enforce
  allow:
    - {id: api, hosts: [api.allowed.test], methods: [GET], paths: any}
    - {id: wide, cidrs: [203.0.113.0/24], methods: [GET], paths: any}
  deny:
    - {id: evil, hosts: [evil.test]}
    - {id: narrow, cidrs: [203.0.113.66/32]}
`;
const API = 'hosts: [api.allowed.test]';
const TESTED = `---
apiVersion: outrider/v1
kind: Boundary
metadata: {name: ceiling}
spec: {requireTests: true}
`;

/** The policies of the case file, by id; each says in one expression what the case describes. */
export const CONFIG_CASES: Readonly<Record<string, ConfigCase>> = {
  X012: refusesSecretOfLines,
  K014: refusedFile(
    SOUND.replace(API, `${API}, credential: here`) +
      binding('here', 'api.allowed.test') +
      binding('there', 'api.allowed.test'),
    SOUND.replace(API, `${API}, credential: here`) + binding('here', 'api.allowed.test'),
  ),
  Y001: refusedOrDenied(SOUND.replace(/allow:\n(?: {4}.*\n)+/, 'allow: []\n')),
  Y002: refusedOrDenied(SOUND.replace(/ {2}allow:\n(?: {4}.*\n)+/, '')),
  Y003: refusedFile(SOUND.replace('mode: enforce', 'mode: enforce\n  alow: []')),
  Y004: refusedFile(SOUND.replace('mode: enforce', 'mode: enforce\n  mode: enforce')),
  Y005: refusedFile(SOUND.replace('cidrs: [203.0.113.0/24]', '$&, allowPrivate: "true"')),
  Y006: refusedOrDenied(SOUND.replace('  mode: enforce\n', '')),
  Y007: refusedFile(SOUND.replace(API, 'hosts: ["*"]')),
  Y008: eachRefused(
    [API, 'hosts: ["api.*.test"]'],
    [API, 'hosts: ["*.com"]'],
    [API, 'hosts: ["a*.allowed.test"]'],
  ),
  Y009: refusedFile(SOUND.replace(API, 'hosts: ["münchen.test"]')),
  Y010: eachRefused(
    ['203.0.113.0/24', '203.0.113.0'],
    ['203.0.113.0/24', '"::ffff:0:0/96"'],
    ['203.0.113.0/24', '203.0.113.7/24'],
  ),
  Y011: refusedFile(
    SOUND.replace(API, `${API}, credential: elsewhere`) +
      binding('elsewhere', 'other.allowed.test'),
  ),
  Y012: keepsTheLastGood,
  Y013: keepsTheFilter,
  Y014: cutsWhatIsRemoved,
  Y015: failsWithoutItsSecret,
  Y017: explainsDenied(
    SOUND.replace('hosts: [evil.test]', API),
    'GET https://api.allowed.test/v1/ok',
  ),
  Y018: explainsDenied(SOUND, 'GET https://203.0.113.66/'),
  Y019: readsNothingOutside,
  Y020: (world) => takesOnlySignedBundles(world, SOUND),
  Y021: deniesWithoutPolicy,
  Y022: refusesToStart,
  Y023: refusedFile(SOUND + TESTED),
  Y024: eachRefused(
    [API, 'hosts: ["api.\u202eallowed.test"]'],
    [API, 'hosts: ["api.allo\u200bwed.test"]'],
    [API, 'hosts: ["\ufeffapi.allowed.test"]'],
  ),
};

/** `soundText`: the same without the fault. */
function refusedFile(text: string, soundText = SOUND): ConfigCase {
  return async (world) => {
    const sound = await check(world, soundText);
    const { code } = await check(world, text);
    return [
      ...(sound.code === 0 ? [] : [`without the fault it is refused, too: ${sound.stderr}`]),
      ...(code === 1 ? [] : [`expected a load error, seen exit ${code}`]),
    ];
  };
}

function eachRefused(...changes: readonly (readonly [string, string])[]): ConfigCase {
  return async (world) => {
    const found = [];
    for (const [old, changed] of changes)
      found.push(
        ...(await refusedFile(SOUND.replace(old, changed))(world)).map(
          (problem) => `${changed}: ${problem}`,
        ),
      );
    return found;
  };
}

/** What does not load grants nothing; what loads must deny what the sound file allows. */
function refusedOrDenied(text: string): ConfigCase {
  return async (world) => {
    if ((await check(world, text)).code === 1) return [];
    return explainsDenied(text, 'GET https://api.allowed.test/v1/ok')(world);
  };
}

function explainsDenied(text: string, request: string): ConfigCase {
  return async (world) => {
    const directory = write(world, { 'policy.yaml': text });
    const { code, stdout, stderr } = await world.mesh.outrider([
      'policy',
      'explain',
      directory,
      '--role',
      'analyst',
      '--request',
      request,
    ]);
    return code === 1 && /den/i.test(stdout)
      ? []
      : [`expected ${request} to be denied, seen exit ${code}: ${stdout}${stderr}`];
  };
}

/** A broken file beside good ones changes nothing, and the log tells of it. */
async function keepsTheLastGood(world: World): Promise<readonly string[]> {
  const file = join(world.policies, 'broken.yaml');
  const before = world.mesh.log().length;
  try {
    writeFileSync(file, 'kind: EgressPolicy\nspec: [');
    await until('the log tells of the file', () =>
      world.mesh.log().slice(before).includes('broken.yaml'),
    );
    return await isEnforced(world);
  } finally {
    rmSync(file);
  }
}

/** Another role comes; what was denied stays so. */
async function keepsTheFilter(world: World): Promise<readonly string[]> {
  const file = join(world.policies, 'another.yaml');
  try {
    writeFileSync(file, SOUND.split('---\n')[0] ?? '');
    await untilInForce(world);
    return await isEnforced(world);
  } finally {
    rmSync(file);
    await untilInForce(world);
  }
}

/** An open tunnel ends within a second of its rule. */
async function cutsWhatIsRemoved(world: World): Promise<readonly string[]> {
  const file = join(world.policies, 'egress.yaml');
  const text = readFileSync(file, 'utf8');
  const from = world.sightings().length;
  const hello = clientHello({ serverName: 'other.allowed.test', ech: false, padding: 0 });
  const steps: Step[] = [
    ...opened(connectHead('other.allowed.test:443')),
    { send: hello.toString('base64') },
    { hold: 20_000 },
  ];
  const held = world.perform('fixture', steps, 25_000);
  try {
    await until('the tunnel is open', () =>
      world
        .sightings()
        .slice(from)
        .some(({ connected }) => connected?.address.endsWith('203.0.113.11')),
    );
    const removedAt = performance.now();
    writeFileSync(file, text.replace(/.*id: other.*\n/, ''));
    const { reply } = await held;
    const afterMs = performance.now() - removedAt;
    // Files are looked at four times a second, twice; the rest is the second that is promised, and a busy machine.
    return reply.eof && afterMs < 5_000
      ? []
      : [`the tunnel lived on for ${Math.round(afterMs)} ms`];
  } finally {
    writeFileSync(file, text);
    await untilInForce(world);
  }
}

async function failsWithoutItsSecret(world: World): Promise<readonly string[]> {
  const request = exchanged('GET /v1/ok HTTP/1.1\r\nHost: unpaid.allowed.test\r\n\r\n', 1);
  const steps: Step[] = [
    ...opened(connectHead('unpaid.allowed.test:443')),
    { tls: { name: 'unpaid.allowed.test' } },
    ...request,
  ];
  const seen = await world.perform('fixture', steps);
  const outcome = outcomeOf({ mode: 'connect and TLS', form: 'http', native: true, steps }, seen);
  const sent = seen.sightings.filter((one) => one.request).length;
  const reasons = seen.proxy.map(({ reason }) => reason);
  return outcome.verdict === 'deny' && sent === 0 && reasons.includes('credential_unavailable')
    ? []
    : [
        `expected a refusal for want of the credential, seen ${saw(outcome)}, ${sent} requests upstream`,
      ];
}

/** A secret that would end its header: the policy that names it does not load, and does when the secret is put right. */
async function refusesSecretOfLines(world: World): Promise<readonly string[]> {
  const file = join(world.policies, 'lines.yaml');
  world.mesh.writeSecret('lines', 'abc\r\nX-Evil: 1');
  const host = 'broken.allowed.test';
  const refusal =
    /^\S+ proxy +error +policy reload failed.*\(file:lines\): the secret holds a control/m;
  try {
    writeFileSync(
      file,
      policyOf('latecomer', host, 'lines') + binding('lines', host, 'file:lines'),
    );
    await until('the proxy refuses to load it', () => refusal.test(world.mesh.log()));
    const { digest } = await loadDirectory(world.policies);
    return reloadsIn(world.mesh.log()).some(([part, to]) => part === 'proxy' && to === digest)
      ? ['the proxy has loaded the policy']
      : [];
  } finally {
    world.mesh.writeSecret('lines', 'abc');
    await untilInForce(world);
    rmSync(file);
    await untilInForce(world);
  }
}

/** A link out of the directory, and a field that would name a file. */
async function readsNothingOutside(world: World): Promise<readonly string[]> {
  const outside = join(world.policies, '..', 'outside.yaml');
  writeFileSync(outside, SOUND);
  const linked = write(world, { 'policy.yaml': SOUND.replaceAll('analyst', 'other') });
  symlinkSync(outside, join(linked, 'linked.yaml'));
  const { code, stderr } = await world.mesh.outrider(['policy', 'check', linked]);
  return [
    ...(code !== 0 && stderr.includes('leads out')
      ? []
      : ['a link out of the directory was followed']),
    ...(await refusedFile(SOUND.replace('mode: enforce', `mode: enforce\n  include: ${outside}`))(
      world,
    )),
  ];
}

async function deniesWithoutPolicy(world: World): Promise<readonly string[]> {
  const code = `
import socket
line = socket.create_connection(("127.0.0.1", 3128), 5)
line.sendall(b"GET http://api.allowed.test/v1/ok HTTP/1.1\\r\\nHost: api.allowed.test\\r\\n\\r\\n")
print(line.recv(4096).split()[1].decode())
`;
  const from = world.sightings().length;
  const { stdout, stderr } = await world.mesh.sdk.run(code, { role: 'unpoliced' });
  return stdout === '403\n' && world.sightings().length === from
    ? []
    : [`expected 403 and nothing upstream, seen ${stdout}${stderr}`];
}

async function refusesToStart(world: World): Promise<readonly string[]> {
  const listeners = [
    'GATEWAY_LISTEN',
    'SERVER_LISTEN',
    'RUNNER_ADMIN',
    'SIDECAR_ADMIN',
    'PROXY_ADMIN',
  ];
  // Nothing else listens at these in the namespace.
  const ports = listeners.map((name, at) => [`OUTRIDER_${name}`, `127.0.0.1:${4101 + at}`]);
  const env = {
    ...Object.fromEntries(ports),
    OUTRIDER_RUNTIME_DIR: join(world.mesh.directory, 'other-run'),
    OUTRIDER_STATE_DIR: join(world.mesh.directory, 'other-state'),
    OUTRIDER_RUNNER_BUBBLEWRAP: '/nonexistent/bwrap',
  };
  const child = world.mesh.start(['up'], { env });
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const over = new Promise((resolve) => child.once('exit', resolve));
  try {
    await until(
      'it names bubblewrap',
      () => said.includes('bubblewrap cannot isolate here'),
      20_000,
    );
    return said.includes('Outrider is ready') ? ['it says that it is ready'] : [];
  } finally {
    child.kill('SIGINT');
    await over;
  }
}

/** What is denied is denied, and what is allowed works: the marker behind it proves that. */
async function isEnforced(world: World): Promise<readonly string[]> {
  const steps: Step[] = [
    { connect: 'relay' },
    ...exchanged('GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n', 1),
  ];
  const outcome = outcomeOf(
    { mode: 'as sent', form: 'http', native: true, steps },
    await world.perform('fixture', steps),
  );
  return outcome.verdict === 'deny' ? [] : [`expected a refusal, seen ${saw(outcome)}`];
}

/** Waits until runner and proxy have both reloaded to what the files say now. */
async function untilInForce({ mesh, policies }: World): Promise<void> {
  const { digest } = await loadDirectory(policies);
  await until('runner and proxy decide by the files as they are', () => {
    const last = new Map(reloadsIn(mesh.log()));
    return last.get('runner') === digest && last.get('proxy') === digest;
  });
}

/** Part and digest of each reload that a log tells of. */
function reloadsIn(log: string): (readonly [part: string, digest: string])[] {
  return [...log.matchAll(RELOADED)].map(([, part = '', digest = '']) => [part, digest]);
}

const RELOADED = /^\S+ (\w+) +info +policy reloaded detail=\{"digest":"([0-9a-f]{64})"/gm;

function policyOf(role: string, host: string, credential: string): string {
  return `apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: ${role}}
spec:
  subjects: [{role: ${role}}]
  mode: enforce
  allow:
    - {id: marker, scheme: http, hosts: [marker.battery.test], methods: [GET], paths: ["/m/*"]}
    - {id: one, hosts: [${host}], methods: [GET], paths: any, credential: ${credential}}
`;
}

function binding(name: string, host: string, secretRef = 'env:X'): string {
  return `---
apiVersion: outrider/v1
kind: CredentialBinding
metadata: {name: ${name}}
spec: {secretRef: "${secretRef}", hosts: [${host}], paths: any, inject: {header: authorization, format: "Bearer {secret}"}}
`;
}

async function check(world: World, text: string) {
  return world.mesh.outrider(['policy', 'check', write(world, { 'policy.yaml': text })]);
}

let directories = 0;

function write(world: World, files: Readonly<Record<string, string>>): string {
  const directory = join(world.policies, '..', `config-${(directories += 1)}`);
  mkdirSync(directory);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}
