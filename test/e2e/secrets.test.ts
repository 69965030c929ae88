import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { inflateSync } from 'node:zlib';
import { keySetPaths, readSigningKey } from '#core/keys';
import { packageRoot } from '#core/package-root';
import { LOCAL_PRINCIPAL, type Principal } from '#core/principal';
import { type ExampleApi, startExampleApi } from '../support/example-api.ts';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { askAsSidecar, executionToken, keyOf, type TokenSays } from '../support/plays-sidecar.ts';
import { readProc } from '../support/processes.ts';

// Where the credential of a datasource and the tokens of the mesh are, and where they must never be.

const SECRET = 'datasource-secret-3f9a7c51e8';
/** Handed to the mesh in the clear by the shell that starts it, as an operator does with `env:` slots. */
const ENV_SECRET = 'environment-secret-77c2d0b6';
const CANARY = 'canary-5b1e9d40aa';
const ADMIN_ROLE = `
---
apiVersion: outrider/v1
kind: Role
metadata: {name: admin, owner: quickstart}
spec:
  members: [{issuer: "https://idp.example", subject: root}]
  sandbox: {timeout: 60s}
`;

let mesh: RunningMesh;
let api: ExampleApi;
before(async () => {
  mesh = await startMesh({
    env: { METRICS_PASSWORD: ENV_SECRET },
    policy: (text, file) => {
      const slots = text.replace('file:metrics-password', 'env:METRICS_PASSWORD');
      return file === 'role-analyst.yaml' ? `${slots}${ADMIN_ROLE}` : slots;
    },
  });
  mesh.writeSecret('example-api-token', SECRET);
  api = await startExampleApi(mesh.ports.example, SECRET);
  const { stdout } = await mesh.sdk.run(
    'import os, urllib.request as r; print(r.urlopen(os.environ["OUTRIDER_URL"] + "/http/example/items?q=1").status)',
    { session: 'kept' },
  );
  assert.equal(stdout, '200\n'); // the credential is in use
});
after(async () => {
  await api.close();
  await mesh.stop();
});

/** Where a text is found: in the log, the audit, or environment or arguments of a process but the proxy. */
function placesOf(text: string): string[] {
  const proxy = mesh.part('proxy');
  const audit = readdirSync(join(mesh.state, 'audit'));
  const texts: (readonly [string, string])[] = [
    ['log', mesh.log()],
    ...audit.map((name): [string, string] => [
      name,
      readFileSync(join(mesh.state, 'audit', name), 'utf8'),
    ]),
    ...mesh
      .processes()
      .filter(({ pid }) => pid !== proxy)
      .flatMap(({ pid, argv }): [string, string][] => {
        const name = argv
          .join(' ')
          .replace(/.*main\.[jt]s /, '')
          .slice(0, 20);
        return [
          [`environment of ${name}`, readProc(pid, 'environ')],
          [`arguments of ${name}`, readProc(pid, 'cmdline')],
        ];
      }),
  ];
  return texts.filter(([, content]) => content.includes(text)).map(([name]) => name);
}

test('the search finds a canary in the environment, in arguments and in the audit', async (t) => {
  const child = spawn(
    process.execPath,
    ['-e', 'setTimeout(() => {}, 60000)', mesh.directory, CANARY],
    {
      env: { CANARY, DIRECTORY: mesh.directory },
    },
  );
  t.after(() => child.kill('SIGKILL'));
  await until('it runs', () => placesOf(CANARY).length === 2);
  await mesh.sdk.run(
    `import os, urllib.request as r\ntry: r.urlopen(os.environ["OUTRIDER_URL"] + "/http/example/${CANARY}")\nexcept OSError: pass`,
  );
  await until('the audit has it', () => {
    const places = placesOf(CANARY);
    return places.includes('proxy.jsonl') && places.includes('sidecar.jsonl');
  });
});

test('B6: the credential of a datasource and the local token are nowhere but where they belong', () => {
  assert.deepEqual(placesOf(SECRET), []);
  assert.deepEqual(placesOf(mesh.token), []);
  const assertion = readFileSync(join(mesh.runtime, 'local-assertion.jwt'), 'utf8').trim();
  assert.deepEqual(placesOf(assertion), []);
});

test("a secret in the shell's environment reaches the proxy and no other part", () => {
  const supervisor = mesh.supervisor.pid ?? 0;
  const holders = mesh
    .processes()
    .filter(({ pid }) => pid !== supervisor)
    .filter(({ pid }) => readProc(pid, 'environ').includes(ENV_SECRET));
  assert.deepEqual(
    holders.map(({ pid }) => pid),
    [mesh.part('proxy')],
  );
});

test('C10: a program that reads all it can finds what was planted, and no secret of the mesh', async () => {
  const code = readFileSync(join(packageRoot, 'examples/demo/programs/hunt.py'), 'utf8');
  const { stdout, stderr } = await mesh.sdk.run(code);
  assert.equal(stderr, '');
  const found: { everything: string; planted: string } = JSON.parse(stdout);
  const read = inflateSync(Buffer.from(found.everything, 'base64')).toString('latin1');
  for (const place of ['file', 'argument', 'environment'])
    assert.ok(read.includes(`${found.planted}-${place}`), `it reads the planted ${place}`);
  const keys = Object.values(keySetPaths(join(mesh.runtime, 'keys')))
    .filter((path) => path.endsWith('.key.json'))
    .map((path) => String(readSigningKey(path).jwk.d));
  assert.equal(keys.length, 3);
  for (const secret of [SECRET, ENV_SECRET, mesh.token, ...keys]) assert.ok(!read.includes(secret));
  assert.doesNotMatch(read, /eyJ[\w-]{10,}\.[\w-]{10,}\./, 'no signed token');
});

/**
 * Searches the memory of every process that it can see for texts which it is given as numbers: so they get into its own memory by no
 * other way. One of its own is found, which shows that the search works.
 */
const SEARCH = `
import json, os, re, sys
planted = ("planted" + os.urandom(9).hex()).encode()
spelled = lambda codes: re.compile(b"".join(b"\\\\x%02x" % code for code in codes))
wanted = {name: spelled(codes) for name, codes in json.loads(sys.argv[1]).items()}
wanted["planted"] = spelled(list(planted))
found, seen = [], 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                first, last = (int(text, 16) for text in line.split()[0].split("-"))
                for at in range(first, last, 1 << 20):
                    try: piece = os.pread(memory.fileno(), min(last - at, (1 << 20) + 4096), at)
                    except (OSError, OverflowError): continue
                    seen += len(piece)
                    found += [name for name, pattern in wanted.items() if pattern.search(piece)]
    except OSError: pass
print(json.dumps({"found": sorted(set(found)), "seen": seen}))
`;

test('C10: a program that searches the memory of all that it can see finds its own, and no secret of the mesh', async () => {
  const assertion = readFileSync(join(mesh.runtime, 'local-assertion.jwt'), 'utf8').trim();
  const [key] = Object.values(keySetPaths(join(mesh.runtime, 'keys')));
  const secrets = {
    credential: SECRET,
    environment: ENV_SECRET,
    token: mesh.token,
    assertion: assertion.slice(-60),
    key: String(readSigningKey(String(key)).jwk.d),
  };
  const codes = Object.entries(secrets).map(([name, text]) => [name, [...Buffer.from(text)]]);
  const argument = JSON.stringify(Object.fromEntries(codes));
  const { stdout, stderr } = await mesh.sdk.run(SEARCH, { args: [argument] });
  assert.equal(stderr, '');
  const { found, seen }: { found: string[]; seen: number } = JSON.parse(stdout);
  assert.ok(seen > 2 ** 20, `${seen} bytes`);
  assert.deepEqual(found, ['planted']);

  const known = `known = "${SECRET}"\n${SEARCH}`; // control: it would be found
  const control = await mesh.sdk.run(known, { args: [argument] });
  assert.deepEqual(JSON.parse(control.stdout).found, ['credential', 'planted']);
});

const root: Principal = {
  ...LOCAL_PRINCIPAL,
  issuer: 'https://idp.example',
  subject: 'root',
  tenant: '',
};
const runnersKey = () => keyOf(mesh, 'runner');
const ask = async (says: TokenSays) => askAsSidecar(mesh, await executionToken(mesh, says));

test('a runner with its real key is let through for the caller that it has, which shows that the door opens', async () => {
  assert.deepEqual(await ask({}), { status: 200, code: undefined });
});

const forgeries: readonly (readonly [string, () => TokenSays, number, string])[] = [
  [
    "signs the caller's part itself",
    () => ({ proofKey: { ...runnersKey(), issuer: 'outrider:local' } }),
    401,
    'UNAUTHENTICATED',
  ],
  [
    'names another subject with the key it has',
    () => ({ principal: root, proofKey: runnersKey(), role: 'admin' }),
    401,
    'UNAUTHENTICATED',
  ],
  ["names another's role for its real caller", () => ({ role: 'admin' }), 403, 'ROLE_DENIED'],
  ['names a role that nobody wrote', () => ({ role: 'owner' }), 403, 'ROLE_DENIED'],
  [
    'has the local issuer vouch for another',
    () => ({ principal: root, role: 'admin' }),
    401,
    'UNAUTHENTICATED',
  ],
];
for (const [what, forgery, status, code] of forgeries)
  test(`a runner that ${what} is refused by the running proxy, and nothing is dialled`, async () => {
    const earlier = api.asked.length;
    assert.deepEqual(await ask(forgery()), { status, code });
    assert.equal(api.asked.length, earlier);
  });

test('the audit of a running mesh verifies, with signatures', async () => {
  const directory = join(mesh.state, 'audit');
  const { code, stdout } = await mesh.outrider(['audit', 'verify', directory]);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /signatures checked: nothing wrong/);
});

const damages: readonly (readonly [string, string, (lines: string[]) => string[], RegExp])[] = [
  [
    'a flipped byte',
    'sidecar.jsonl',
    (lines) => change(lines, '"verdict":"allow"', '"verdict":"deny"'),
    /proxy\.jsonl:\d+: .* not the one that was acknowledged/,
  ],
  [
    'a flipped byte',
    'proxy.jsonl',
    (lines) => change(lines, '"status":200', '"status":201'),
    /proxy\.jsonl:\d+: .*changed/,
  ],
  [
    'a removed line',
    'proxy.jsonl',
    (lines) => lines.toSpliced(1, 1),
    /proxy\.jsonl:\d+: .*record 1 expected, 2 found/,
  ],
  [
    'a flipped byte',
    'runner.jsonl',
    (lines) => change(lines, '"role":"analyst"', '"role":"analyss"'),
    /runner\.jsonl:\d+: .*changed/,
  ],
];
for (const [what, file, damage, finding] of damages)
  test(`${what} in ${file} is found`, async (t) => {
    const copy = copyOfAudit(t);
    assert.equal((await mesh.outrider(['audit', 'verify', copy])).code, 0);
    const path = join(copy, file);
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    writeFileSync(path, `${damage(lines).join('\n')}\n`);
    const { code, stdout } = await mesh.outrider(['audit', 'verify', copy]);
    assert.equal(code, 1);
    assert.match(stdout, finding);
  });

function change(lines: readonly string[], from: string, to: string): string[] {
  const at = lines.findIndex((line) => line.includes(from));
  assert.ok(at >= 0, `${from} is there to be changed`);
  return lines.with(at, (lines[at] ?? '').replace(from, to));
}

/** The audit and the public keys beside it, as they are now. */
function copyOfAudit(t: TestContext): string {
  const to = mkdtempSync(join(tmpdir(), 'o-audit-'));
  t.after(() => rmSync(to, { recursive: true, force: true }));
  for (const name of ['audit', 'audit-keys'])
    cpSync(join(mesh.state, name), join(to, name), { recursive: true });
  assert.ok(existsSync(join(to, 'audit', 'runner.jsonl')));
  return join(to, 'audit');
}
