import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { packageRoot } from '#core/package-root';
import { type ExampleApi, startExampleApi } from '../support/example-api.ts';
import { ended, type RunningMesh, startMesh, until } from '../support/mesh.ts';

// The running mesh from outside: the command line, the SDK and MCP, and what a program can and cannot reach.

const TOKEN = 'example-token-6c1f0b9a2d7e';

let mesh: RunningMesh;
let api: ExampleApi;

before(async () => {
  mesh = await startMesh();
  mesh.writeSecret('example-api-token', TOKEN);
  api = await startExampleApi(mesh.ports.example, TOKEN);
});
after(async () => {
  await api.close();
  await mesh.stop();
});

test('what `outrider up` prints is what one needs: the URL, the token, the gRPC address', async () => {
  const { banner, url, token, runtime } = mesh;
  const servers: unknown = JSON.parse(/^\{$.*^\}$/ms.exec(banner())?.[0] ?? '');
  assert.deepEqual(servers, {
    mcpServers: {
      outrider: { type: 'http', url: url.href, headers: { Authorization: `Bearer ${token}` } },
    },
  });
  assert.ok(banner().includes(`unix:${join(runtime, 'runner.sock')}`));
  assert.equal((await mesh.outrider(['token'])).stdout.trim(), token);
});

const commands: readonly (readonly [string, readonly string[], string, number, string])[] = [
  ['a program from stdin', ['-'], 'print(6 * 7)', 0, '42\n'],
  ["the program's exit code", ['-'], 'import sys; sys.exit(7)', 7, ''],
  ['an exception', ['-'], 'raise ValueError("no")', 1, ''],
  ['a signal', ['-'], 'import os; os.kill(os.getpid(), 15)', 143, ''],
  ['a signal that few know', ['-'], 'import os; os.kill(os.getpid(), 14)', 142, ''],
  ['a signal without a name', ['-'], 'import os; os.kill(os.getpid(), 40)', 168, ''],
  ['a time-out', ['--timeout', '1s', '-'], 'import time; time.sleep(30)', 124, ''],
  [
    'an environment variable',
    ['--env', 'A=b c', '-'],
    'import os; print(os.environ["A"])',
    0,
    'b c\n',
  ],
  ['a shell', ['--language', 'shell', '-'], 'echo "$((6 * 7))"', 0, '42\n'],
  [
    'JavaScript, in its own profile',
    ['--language', 'javascript', '-'],
    'console.log(process.release.name)',
    0,
    'node\n',
  ],
  ['a profile by its name, which runs no Python', ['--profile', 'node', '-'], 'print(1)', 125, ''],
  ['control: the same in the first profile', ['-'], 'print(1)', 0, '1\n'],
  ["a profile that is not the role's", ['--profile', 'python-data', '-'], 'print(1)', 125, ''],
  ['a role that nobody has', ['--role', 'admin', '-'], 'print(1)', 125, ''],
  ['an unknown option', ['--bogus', '-'], '', 2, ''],
  ['a file that is not there', ['/nowhere/program.py'], '', 125, ''],
  ['a language that nobody speaks', ['--language', 'cobol', '-'], 'x', 125, ''],
];
for (const [what, argv, stdin, code, stdout] of commands)
  test(`outrider exec: ${what} ends with ${code}`, async () => {
    const result = await mesh.outrider(['exec', ...argv], { stdin });
    assert.equal(result.code, code, result.stderr);
    assert.equal(result.stdout, stdout);
  });

test('outrider exec: a program from a file reads stdin, and its two streams stay two', async () => {
  const program = join(mesh.directory, 'echo.py');
  writeFileSync(
    program,
    'import sys\nprint(sys.stdin.read().upper(), sys.argv[1])\nprint("!", file=sys.stderr)',
  );
  const result = await mesh.outrider(['exec', program, 'word'], { stdin: 'höhe' });
  assert.deepEqual(result, { code: 0, stdout: 'HÖHE word\n', stderr: '!\n' });
});

for (const [name, code] of [
  ['p.py', 'print(6 * 7)'],
  ['p.sh', 'echo $((6 * 7))'],
  ['p.mjs', 'console.log(6 * 7)'],
  ['p.ts', 'const seven: number = 7; console.log(6 * seven)'],
] as const)
  test(`outrider exec: the ending of ${name} says what it is`, async () => {
    const program = join(mesh.directory, name);
    writeFileSync(program, code);
    const result = await mesh.outrider(['exec', program]);
    assert.deepEqual([result.stdout, result.code], ['42\n', 0], result.stderr);
  });

test('outrider exec: files stay within a session, and nowhere else', async () => {
  const write = 'open("kept", "w").write("here")';
  const read = 'print(open("kept").read())';
  const exec = (session: string, stdin: string) =>
    mesh.outrider(['exec', '--session', session, '-'], { stdin });
  assert.equal((await exec('one', write)).code, 0);
  assert.equal((await exec('one', read)).stdout, 'here\n');
  assert.equal((await exec('two', read)).code, 1);
  assert.equal((await mesh.outrider(['exec', '-'], { stdin: read })).code, 1);
});

test('the SDK runs programs: result, files, streams, and an abort that ends them', async () => {
  const { sdk } = mesh;
  const result = await sdk.run('print(open("in.txt").read()); raise SystemExit(3)', {
    files: { 'in.txt': 'given' },
  });
  assert.deepEqual([result.stdout, result.killedBy, result.exitCode], ['given\n', 'exit', 3]);

  const execution = sdk.start(
    'for line in __import__("sys").stdin: print(line, end="", flush=True)',
  );
  execution.write('one\n');
  let seen = '';
  for await (const event of execution.events) {
    if (event.stream === 'end') assert.equal(event.end.exitCode, 0);
    else seen += event.data.toString();
    if (seen === 'one\n') execution.closeStdin();
  }
  assert.equal(seen, 'one\n');

  const abort = new AbortController();
  const sleeping = sdk.run('import time; time.sleep(30)', { signal: abort.signal });
  setTimeout(() => abort.abort(), 200);
  await assert.rejects(sleeping, { code: 1 });
  await until('the runner accounts for it', () =>
    mesh.audit('runner').some(({ killedBy }) => killedBy === 'disconnect'),
  );
});

test('the example that embeds execution runs as it stands', async () => {
  const child = spawn(
    process.execPath,
    ['--conditions=outrider-source', join(packageRoot, 'examples/embed/embed.ts')],
    { env: { ...mesh.env }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const { code, stdout, stderr } = await ended(child, 120_000);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^hello from sandbox 42\nended by exit with 0 after \d+ ms\n$/);
});

const ERAS = ['legacy', { pin: '2026-07-28' }] as const;
for (const era of ERAS) {
  const name = typeof era === 'string' ? era : era.pin;

  test(`MCP (${name}): execute_python runs, fails as an answer, and keeps a session's files`, async (t) => {
    const client = await connectClient(t, era);
    const call = async (code: string, more = {}) => {
      const result = await client.callTool({
        name: 'execute_python',
        arguments: { code, ...more },
      });
      return { isError: result.isError === true, ...Object(result.structuredContent) };
    };
    const { tools } = await client.listTools();
    assert.deepEqual(
      tools.map((tool) => tool.name),
      ['execute_python', 'run_js', 'run_shell', 'manage_session'],
    );
    assert.equal((await call('print("höhe")')).stdout, 'höhe\n');
    const failed = await call('raise ValueError("no")');
    assert.deepEqual(
      [failed.isError, failed.exit_code, failed.exception.type],
      [true, 1, 'ValueError'],
    );
    const late = await call('import time; time.sleep(30)', { timeout: 1 });
    assert.deepEqual([late.isError, late.killed_by], [true, 'timeout']);
    const session = { session_id: `files-${name}` };
    await call('open("kept", "w").write("here")', session);
    const kept = await call('print(open("kept").read())', session);
    assert.deepEqual([kept.stdout, kept.session_id], ['here\n', session.session_id]);
    const report = await call('open("/output/report.csv", "w").write("a,b")');
    const [file] = report.files;
    assert.deepEqual([report.files.length, file.path, file.size], [1, 'report.csv', 3]);
    const { contents } = await client.readResource({ uri: file.uri });
    assert.deepEqual(contents, [{ uri: file.uri, mimeType: 'text/plain', text: 'a,b' }]);
  });
}

test('a wrong token is not let in, the right one is', async () => {
  const post = (authorization: string) =>
    fetch(mesh.url, {
      method: 'POST',
      headers: {
        authorization,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }),
    });
  assert.equal((await post(`Bearer ${mesh.token}x`)).status, 401);
  assert.equal((await post(`Bearer ${TOKEN}`)).status, 401);
  assert.notEqual((await post(`Bearer ${mesh.token}`)).status, 401);
});

test('a body that is too large is refused with its limit, and the gateway goes on', async () => {
  const headers = { authorization: `Bearer ${mesh.token}`, 'content-type': 'application/json' };
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'ping',
    params: 'x'.repeat(2 ** 20),
  });
  const answer = await fetch(mesh.url, { method: 'POST', headers, body });
  assert.equal(answer.status, 413);
  const { error } = Object(await answer.json());
  assert.equal(error.data?.code ?? error.code, 'BODY_TOO_LARGE', JSON.stringify(error));
  assert.match(error.message, /1048576|1 MiB/);
  assert.equal((await fetch(new URL('/readyz', mesh.url))).status, 200);
});

test('an allowed datasource answers with its credential, which the program never sees', async () => {
  const earlier = api.asked.length;
  const { stdout, stderr } = await mesh.sdk.run(`
import os, urllib.request
for url in (os.environ["OUTRIDER_URL"] + "/http/example/items", "http://http-example.outrider.internal/items"):
    with urllib.request.urlopen(url) as answer:
        print(answer.status, answer.read().decode().strip(), sorted(answer.headers))
request = urllib.request.Request(os.environ["OUTRIDER_URL"] + "/http/items", headers={"X-Datasource": "example", "Authorization": "Bearer mine"})
print(urllib.request.urlopen(request).status)
`);
  assert.equal(stderr, '');
  assert.match(stdout, /^200 \{"items":3\}.*\n200 \{"items":3\}.*\n200\n$/);
  assert.ok(!stdout.includes(TOKEN));
  assert.deepEqual(
    api.asked.slice(earlier).map(({ url, authorization }) => ({ url, authorization })),
    Array.from({ length: 3 }, () => ({ url: '/items', authorization: `Bearer ${TOKEN}` })),
  );
});

/** What a program cannot do, the outcome that it sees, and the reason in the audit where it leaves the program at all. */
const forbidden: readonly (readonly [string, string, string, (string | undefined)?])[] = [
  ['a host that no rule names', 'get("http://drop.example.net/")', 'HTTP 403', 'host_not_allowed'],
  ['the same by CONNECT', 'get("https://drop.example.net/")', 'Forbidden', 'host_not_allowed'],
  [
    'a path that no rule names',
    'get(URL + "/prometheus/metrics/api/v1/admin")',
    'HTTP 403',
    'path_not_allowed',
  ],
  [
    'a method that no rule names',
    'get(URL + "/http/example/items", b"")',
    'HTTP 405',
    'method_not_allowed',
  ],
  ['a datasource that nobody wrote', 'get(URL + "/http/other/items")', 'HTTP 404', 'alias_unknown'],
  ['the metadata address', 'proxied("http://169.254.169.254/")', 'HTTP 403', 'ip_forbidden_class'],
  [
    'the metadata address, spelled as a number',
    'proxied("http://2852039166/")',
    'HTTP 4',
    undefined,
  ],
  ['loopback', 'proxied("http://127.0.0.1:8788/")', 'HTTP 403', 'ip_forbidden_class'],
  [
    'loopback by its name',
    'proxied("http://localhost:8794/metrics")',
    'HTTP 403',
    'ip_forbidden_class',
  ],
  [
    'loopback, mapped into IPv6',
    'proxied("http://[::ffff:127.0.0.1]/")',
    'HTTP 403',
    'ip_forbidden_class',
  ],
  ['a path that climbs', 'proxied(URL + "/http/example/%2e%2e/secrets")', 'HTTP 400', undefined],
  ['a connection of its own', 'socket.create_connection(("192.0.2.1", 443), 5)', 'unreachable'],
  [
    'the metadata address, directly',
    'socket.create_connection(("169.254.169.254", 80), 5)',
    'unreachable',
  ],
  ["the mesh's own ports", 'socket.create_connection(("127.0.0.1", 8788), 5)', 'refused'],
  [
    'a datagram',
    'socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.53", 53))',
    'unreachable',
  ],
  ['a raw socket', 'socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)', 'not permitted'],
  ['a packet socket', 'socket.socket(17, socket.SOCK_RAW, 3)', 'not '],
  ['a name look-up', 'socket.getaddrinfo("example.com", 443)', 'name resolution'],
  ["the agent's environment", 'open("/proc/1/environ").read()', 'Permission denied'],
  ["the agent's memory", 'open("/proc/1/mem", "rb").read(1)', 'Permission denied'],
  [
    "the agent's control socket",
    'socket.socket(socket.AF_UNIX).connect("/run/outrider/control")',
    'No such file',
  ],
  ['writing to the system', 'open("/usr/x", "w")', 'Read-only'],
  ['kernel settings', 'open("/proc/sys/kernel/core_pattern", "w")', 'Permission denied|Read-only'],
];
const PRELUDE = `
import http.client, os, socket, urllib.request
URL = os.environ["OUTRIDER_URL"]
def get(url, data=None):
    return urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=10).read()
def proxied(url):
    connection = http.client.HTTPConnection("127.0.0.1", 3128, timeout=10)
    connection.request("GET", url)
    status = connection.getresponse().status
    if status >= 400: raise OSError("HTTP %d" % status)
`;

test('what no rule allows is refused, and each refusal has its record', async () => {
  const attempts = forbidden.map(([what, code]) => [what, code]);
  const { stdout, stderr, raw } = await mesh.sdk.run(`${PRELUDE}
import json, urllib.error
for what, code in json.loads(${JSON.stringify(JSON.stringify(attempts))}):
    try: exec(code); print(json.dumps([what, "IT WORKED"]))
    except urllib.error.HTTPError as error: print(json.dumps([what, "HTTP %d" % error.code]))
    except Exception as error: print(json.dumps([what, str(error)]))
`);
  assert.equal(stderr, '');
  const outcomes = new Map<string, string>(
    stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  );
  for (const [what, , expected] of forbidden)
    assert.match(outcomes.get(what) ?? 'it did not run', new RegExp(expected), what);
  const reasons = forbidden.flatMap(([, , , reason]) => (reason === undefined ? [] : [reason]));
  await until('the sidecar delivers its records', () => deniedReasons().length >= reasons.length);
  for (const reason of reasons) assert.ok(deniedReasons().includes(reason), reason);
  assert.ok((raw.egress?.denied ?? 0n) >= BigInt(reasons.length));

  function deniedReasons(): unknown[] {
    return mesh
      .audit('sidecar')
      .filter(({ verdict }) => verdict === 'deny')
      .map(({ reason }) => reason);
  }
});

async function connectClient(t: TestContext, mode: (typeof ERAS)[number]): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } });
  await client.connect(
    new StreamableHTTPClientTransport(mesh.url, {
      requestInit: { headers: { authorization: `Bearer ${mesh.token}` } },
    }),
  );
  t.after(() => client.close());
  return client;
}
