import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join, relative } from 'node:path';
import { after, before, test } from 'node:test';
import { closeServer, listen } from '#core/http';
import { searchMemory } from '../support/memory.ts';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { readProc } from '../support/processes.ts';

// Fifty secrets in use, half in files and half in the encrypted store, by an upstream that sends every one back in every way it can:
// where they are afterwards. As root, since the memory of other processes is read.

const SECRETS = 50;
/** Every canary begins with it, so that one search finds any of them; never written out in full in what runs. */
const MARK = `cnry${randomBytes(9).toString('hex')}`;
const canary = (number: number) => `${MARK}-${number}-${randomBytes(6).toString('hex')}`;
const CANARIES = Array.from({ length: SECRETS }, (_, number) => canary(number));
const isRoot = process.getuid?.() === 0;

/** The ways in which any of them can stand somewhere: as it is, in hex, and in base64 at the three offsets that it can have. */
const SHAPES: Readonly<Record<string, string>> = {
  raw: MARK,
  hex: Buffer.from(MARK).toString('hex'),
  ...Object.fromEntries(
    ['', 'x', 'xy'].map((prefix) => [
      `base64+${prefix.length}`,
      Buffer.from(`${prefix}${MARK}`).toString('base64').slice(4, 24),
    ]),
  ),
};
const shapesIn = (text: string) =>
  Object.keys(SHAPES).filter((name) => text.includes(SHAPES[name] ?? ''));

/** Asks every datasource twice, one answer of them an error, and keeps all that came; then waits for the end of its stdin. */
const PROGRAM = `
import concurrent.futures, os, sys, urllib.error, urllib.request
def ask(number):
    kept = []
    for path in ("/echo", "/fail"):
        url = f"{os.environ['OUTRIDER_URL']}/http/canary-{number}{path}"
        try:
            answer = urllib.request.urlopen(url)
        except urllib.error.HTTPError as error:
            answer = error
        kept.append((answer.status, str(answer.headers), answer.read()))
    return kept
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    kept = list(pool.map(ask, range(${SECRETS})))
print(sorted({(status, len(body) > 100) for answers in kept for status, _, body in answers}), flush=True)
sys.stdin.read()
`;

let mesh: RunningMesh;
let echo: Server;
const used = new Set<string>();
before(async () => {
  mesh = await startMesh({
    policy: (text, file) =>
      file === 'boundary.yaml'
        ? text.replace('requireTests: true', 'requireTests: false')
        : file === 'datasources.yaml'
          ? text +
            datasources(/endpoint: (http:\S+:)\d+\n[^]*endpoint: (\S+)/.exec(text)?.[2] ?? '')
          : file === 'egress-analyst.yaml'
            ? text.replace('  allow:\n', `  allow:\n${rules()}`)
            : text,
  });
  for (const [number, value] of CANARIES.entries())
    if (number % 2 === 0) mesh.writeSecret(`canary-${number}`, value);
    else {
      const set = await mesh.outrider(['secret', 'set', `store:main:canary-${number}`], {
        stdin: value,
      });
      assert.equal(set.code, 0, set.stderr);
    }
  echo = createServer((request, response) => {
    const authorization = request.headers.authorization ?? '';
    const secret = /^Bearer (.+)$/.exec(authorization)?.[1] ?? '';
    used.add(secret);
    const encoded = [
      secret,
      Buffer.from(secret).toString('base64'),
      Buffer.from(`u:${secret}`).toString('base64'),
      Buffer.from(secret).toString('hex'),
      encodeURIComponent(secret),
    ];
    response.writeHead(request.url === '/fail' ? 500 : 200, `because ${secret}`, {
      'x-echo': authorization,
      'x-raw': encoded.join(' '),
    });
    response.write(`error near "${secret.slice(0, 9)}`);
    setImmediate(() => response.end(`${secret.slice(9)}": ${JSON.stringify(encoded)}`));
  });
  await listen(echo, { kind: 'tcp', host: '127.0.0.1', port: mesh.ports.example });
});
after(async () => {
  await closeServer(echo);
  await mesh.stop();
});

function datasources(endpoint: string): string {
  return CANARIES.map(
    (_, number) => `
---
apiVersion: outrider/v1
kind: Datasource
metadata: {name: canary-${number}, owner: tests}
spec:
  type: http
  endpoint: ${endpoint}
  allowLoopback: true
  auth: {type: bearer}
  secretRef: ${number % 2 === 0 ? `file:canary-${number}` : `store:main:canary-${number}`}
`,
  ).join('');
}

function rules(): string {
  return CANARIES.map(
    (_, number) =>
      `    - {id: canary-${number}, datasource: http/canary-${number}, methods: [GET], paths: ["/**"]}\n`,
  ).join('');
}

/** Where any canary is: in the log, in a file of the mesh but the secrets' own, or in what can be seen of a process but the proxy. */
function placesOf(): string[] {
  const proxy = mesh.part('proxy');
  const secrets = join(mesh.state, 'secrets');
  const files = readdirSync(mesh.directory, { recursive: true, withFileTypes: true })
    .filter((file) => file.isFile() && file.parentPath !== secrets)
    .map((file) => join(file.parentPath, file.name));
  const texts: (readonly [string, string])[] = [
    ['log', mesh.log()],
    ...files.map((path) => [relative(mesh.directory, path), readFileSync(path, 'latin1')] as const),
    ...mesh
      .processes()
      .filter(({ pid }) => pid !== proxy)
      .flatMap(({ pid }) =>
        ['environ', 'cmdline'].map((file) => [`${file} of ${pid}`, readProc(pid, file)] as const),
      ),
  ];
  return texts.flatMap(([where, text]) => (shapesIn(text).length > 0 ? [where] : []));
}

test('F1: fifty secrets in use are in no environment, argument, log, audit, file and memory but the proxy’s', {
  skip: !isRoot && 'the memory of other processes is closed to an ordinary user',
}, async (t) => {
  const program = mesh.sdk.start(PROGRAM, { timeoutMs: 60_000 });
  let said = '';
  const end = (async () => {
    for await (const event of program.events)
      if (event.stream === 'end') return event.end;
      else said += event.data.toString();
    return undefined;
  })();
  await until('it has asked for all', () => said.endsWith(']\n'));
  assert.equal(said, '[(200, True), (500, True)]\n');
  assert.deepEqual([...used].toSorted(), CANARIES.toSorted(), 'every secret was in use');

  await t.test('log, files, environments and arguments', () => assert.deepEqual(placesOf(), []));
  await t.test('memory', () => {
    const proxy = mesh.part('proxy');
    const searched = mesh
      .processes()
      .map(({ pid, argv }) => ({ pid, argv, ...searchMemory(pid, SHAPES) }));
    const others = searched.filter(({ pid }) => pid !== proxy);
    assert.deepEqual(
      others.filter(({ found }) => found.length > 0),
      [],
    );
    assert.ok(others.length >= 6, 'supervisor, runner, launcher, sidecar, server, gateway, boxes');
    assert.ok(others.reduce((sum, { bytes }) => sum + bytes, 0) > 100 * 2 ** 20);
    assert.ok(
      others.some(({ argv, bytes }) => argv.join(' ').includes('python') && bytes > 2 ** 20),
    );
    // Control: the same search finds them where they are.
    const [own] = searched.filter(({ pid }) => pid === proxy);
    assert.ok(own?.found.includes('raw'), 'the proxy holds them');
  });
  program.closeStdin();
  assert.equal((await end)?.exitCode, 0);
});

test('the search finds a canary that is planted in a file, an environment, arguments and a memory', {
  skip: !isRoot && 'as above',
}, async (t) => {
  const planted = join(mesh.state, 'audit', 'planted.tmp');
  writeFileSync(planted, Buffer.from(`u:${CANARIES[0]}`).toString('base64'));
  t.after(() => rmSync(planted, { force: true }));
  const code =
    'const kept = process.argv[2] + process.env.PLANTED; setTimeout(() => kept, 60000); console.log("up")';
  const child = spawn(process.execPath, ['-e', code, mesh.directory, String(CANARIES[1])], {
    env: { PLANTED: CANARIES[2], DIRECTORY: mesh.directory },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.after(() => child.kill('SIGKILL'));
  assert.ok(child.stdout);
  await once(child.stdout, 'data');
  assert.deepEqual(placesOf(), [
    'state/audit/planted.tmp',
    `environ of ${child.pid}`,
    `cmdline of ${child.pid}`,
  ]);
  assert.deepEqual(searchMemory(child.pid ?? 0, { raw: MARK }).found, ['raw']);
  assert.deepEqual(searchMemory(child.pid ?? 0, { raw: MARK.toUpperCase() }).found, []);
});
