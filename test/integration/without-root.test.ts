import assert from 'node:assert/strict';
import { type ChildProcess, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { closeServer, listen } from '#core/http';
import { MESH_UID, powerIn } from '#core/mesh-user';
import { packageRoot } from '#core/package-root';
import { WHERE_ROOT_IS_GIVEN_UP } from '#core/testing/without-root';
import { debuggersIn, evaluateIn } from '../support/debugger.ts';
import { makePlace, type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { descendantsOf, processesNaming, readProc } from '../support/processes.ts';

// D13. Every fact is read from the real processes: from /proc, or, where it is about what a process may do, inside it, by Node's own debugger.

const root = process.getuid?.() === 0;
const AS_ROOT = { skip: !root };

const ground = mkdtempSync(join(tmpdir(), 'o-'));
after(() => rmSync(ground, { recursive: true, force: true }));

/** Policies that only root can read. */
const policies = join(ground, 'policies');
cpSync(join(packageRoot, 'examples/quickstart/policies'), policies, { recursive: true });
for (const file of readdirSync(policies)) chmodSync(join(policies, file), 0o600);
chmodSync(policies, 0o700);

const GIVEN_UP = ['runner', 'sidecar', 'server', 'gateway'];
const statusOf = (mesh: RunningMesh, part: string) => readProc(mesh.part(part), 'status');

/** One that has just been started has a single one, and one that has ended none. */
function threadsOf(pid: number): string[] {
  return existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`) : [];
}

/** What is left of root in each thread of a process, once each. */
function powersOf(pid: number): (string | undefined)[] {
  const threads = threadsOf(pid);
  assert.ok(threads.length > 1);
  const statuses = threads.map((thread) => readProc(pid, `task/${thread}/status`));
  const seen = statuses.filter((status) => status !== '');
  return [...new Set(seen.map((status) => powerIn(status, MESH_UID)))];
}

describe(
  'D13: started as root, `outrider up` leaves root to the launcher and the proxy',
  WHERE_ROOT_IS_GIVEN_UP,
  () => {
    let mesh: RunningMesh;
    before(async () => {
      mesh = await startMesh({
        env: { OUTRIDER_UP_POLICIES: policies, NODE_OPTIONS: '--inspect=127.0.0.1:0' },
      });
    });
    after(() => mesh.stop());

    for (const part of GIVEN_UP)
      test(`no thread of the ${part} has root, a capability or a further group`, () => {
        assert.deepEqual(powersOf(mesh.part(part)), [undefined]);
      });

    for (const part of ['launcher', 'proxy'])
      test(`control: the ${part} is root`, () => {
        assert.deepEqual(powersOf(mesh.part(part)), ['Uid']);
        assert.match(statusOf(mesh, part), /^Uid:\s*0\s+0\s+0\s+0$/m);
      });

    test('programs run, and the control group of each bounds its memory', async () => {
      assert.equal((await mesh.sdk.run('print(6 * 7)')).stdout, '42\n');
      assert.equal((await mesh.sdk.run("x = b'x' * 2**30")).killedBy, 'oom');
    });

    test('policies that only root can read are read again when they change', async () => {
      const file = join(policies, 'role-analyst.yaml');
      const text = readFileSync(file, 'utf8');
      const first = await digestOf(mesh);
      writeFileSync(file, text.replace('owner: quickstart', 'owner: somebody-else'));
      await until('the runner has the new policies', async () => (await digestOf(mesh)) !== first);
      const second = await digestOf(mesh);
      await until('the gateway, too', async () => (await gatewayDigestOf(mesh)) === second);
      writeFileSync(file, text);
      await until('and the old ones again', async () => (await digestOf(mesh)) === first);
      await until('the gateway, too', async () => (await gatewayDigestOf(mesh)) === first);
    });

    describe('the runner, taken over, cannot', () => {
      const secret = join(ground, 'secret');
      const engine = createServer((_, response) => response.end());
      const socket = join(ground, 'engine.sock');
      before(async () => {
        writeFileSync(secret, 'secret', { mode: 0o600 });
        chmodSync(ground, 0o755);
        await new Promise<void>((resolve) => void engine.listen(socket, resolve));
        chmodSync(socket, 0o660);
      });
      after(() => void engine.close());

      const cases: readonly (readonly [string, (mesh: RunningMesh) => string, string])[] = [
        ['read a file of root', () => `fs.readFileSync('${secret}')`, 'EACCES'],
        ['see the keys of the mesh', (at) => `fs.readdirSync('${at.runtime}/keys')`, 'EACCES'],
        ['see what is kept', (at) => `fs.readdirSync('${at.state}')`, 'EACCES'],
        ['see the policies', () => `fs.readdirSync('${policies}')`, 'EACCES'],
        ['replace what is of root', (at) => moving(`${at.runtime}/keys`), 'EPERM'],
        [
          'read the memory of the proxy',
          (at) => `fs.openSync('/proc/${at.part('proxy')}/mem')`,
          'EACCES',
        ],
        [
          'read the memory of the gateway',
          (at) => `fs.openSync('/proc/${at.part('gateway')}/mem')`,
          'EACCES',
        ],
        ['end a process of root', () => `process.kill(${process.pid}, 0)`, 'EPERM'],
        [
          'open the socket of an engine',
          () =>
            `new Promise((done, failed) => net.connect('${socket}').on('connect', done).on('error', failed))`,
          'EACCES',
        ],
        ['be root again', () => 'process.setuid(0)', 'EPERM'],
        ['have its old groups again', () => 'process.setgroups([0])', 'EPERM'],
      ];
      for (const [what, expression, code] of cases)
        test(what, async () => {
          assert.equal(await tryIn(mesh, 'runner', expression(mesh)), code);
        });

      for (const [what, expression] of cases)
        test(`control: the launcher can ${what}`, async () => {
          assert.equal(await tryIn(mesh, 'launcher', expression(mesh)), 'done');
        });
    });
  },
);

/** How it went inside the process of a part: `done`, or the code of the failure. */
async function tryIn(mesh: RunningMesh, part: string, expression: string): Promise<unknown> {
  const url = await debuggerOf(mesh, part);
  return evaluateIn(
    url,
    `(async () => {
      const [fs, net] = ['fs', 'net'].map((name) => process.getBuiltinModule(name));
      try { await (${expression}); return 'done'; } catch (error) { return error.code ?? String(error); }
    })()`,
  );
}

async function debuggerOf(mesh: RunningMesh, part: string): Promise<string> {
  const pid = mesh.part(part);
  const urls = debuggersIn(mesh.log());
  const pids = await Promise.all(
    urls.map((url) => evaluateIn(url, 'process.pid').catch(() => undefined)),
  );
  return urls[pids.indexOf(pid)] ?? assert.fail(`${part} has no debugger`);
}

/** Away, and back again. */
function moving(path: string): string {
  return `(fs.renameSync('${path}', '${path}-2'), fs.renameSync('${path}-2', '${path}'))`;
}

/** A free one that an ordinary user may not have. */
async function lowPort(): Promise<number> {
  for (let port = 700; port < 1_000; port++) {
    const server = createServer();
    const free = await listen(server, { kind: 'tcp', host: '127.0.0.1', port }).catch(() => {});
    if (free) {
      await closeServer(server);
      return port;
    }
  }
  return assert.fail('there is no low port left');
}

async function digestOf(mesh: RunningMesh): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${mesh.ports.runner}/readyz`);
  const body: unknown = await response.json();
  return Object(body).policyDigest;
}

async function gatewayDigestOf(mesh: RunningMesh): Promise<string | undefined> {
  const [url] = /http:\/\/[^/]+(?=\/mcp)/.exec(mesh.banner()) ?? [];
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return /outrider_policy_info\{digest="([^"]+)"/.exec(metrics)?.[1];
}

describe('D13: with a sidecar for each sandbox', WHERE_ROOT_IS_GIVEN_UP, () => {
  let mesh: RunningMesh;
  before(async () => {
    const env = {
      OUTRIDER_UP_SHARING: 'none',
      OUTRIDER_GATEWAY_LISTEN: `127.0.0.1:${await lowPort()}`,
    };
    mesh = await startMesh({ env });
  });
  after(() => mesh.stop());

  test('the gateway listens where only root may', async () => {
    assert.deepEqual(powersOf(mesh.part('gateway')), [undefined]);
    const [url] = /http:\/\/127\.0\.0\.1:[789]\d\d(?=\/mcp)/.exec(mesh.banner()) ?? [];
    assert.equal((await fetch(`${url}/livez`)).status, 200);
  });

  test('none of them has root, nor ever had, and programs run', async () => {
    assert.equal((await mesh.sdk.run('print(6 * 7)')).stdout, '42\n');
    const sidecars = descendantsOf(mesh.part('runner'))
      .filter(({ argv }) => argv.includes('sidecar'))
      .filter(({ pid }) => threadsOf(pid).length > 1);
    assert.ok(sidecars.length > 0);
    for (const { pid } of sidecars) assert.deepEqual(powersOf(pid), [undefined]);
  });
});

describe('D13: with `up.user: 0`', AS_ROOT, () => {
  test('every part stays root, and says so', async () => {
    const mesh = await startMesh({ env: { OUTRIDER_UP_USER: '0' } });
    try {
      for (const part of GIVEN_UP) assert.deepEqual(powersOf(mesh.part(part)), ['Uid'], part);
      assert.equal(mesh.log().match(/stays root/g)?.length, GIVEN_UP.length);
      assert.equal((await mesh.sdk.run('print(6 * 7)')).stdout, '42\n');
    } finally {
      await mesh.stop();
    }
  });
});

test(
  'D13: a mesh that was root’s, and was killed, goes on as its own user with what it has kept',
  WHERE_ROOT_IS_GIVEN_UP,
  async (t) => {
    const place = await makePlace();
    t.after(() => place.remove());
    const socket = join(place.runtime, 'runner.sock');
    const exec = () => place.outrider(['exec', '-'], { stdin: 'print(6 * 7)' });
    const up = async (env: Record<string, string>): Promise<ChildProcess> => {
      const child = place.start(['up'], { env });
      const said: string[] = [];
      child.stdout?.on('data', (text: Buffer) => said.push(text.toString()));
      child.stderr?.on('data', (text: Buffer) => said.push(text.toString()));
      await until(
        'it is ready',
        () => {
          assert.equal(child.exitCode, null, said.join(''));
          return said.join('').includes('Outrider is ready');
        },
        120_000,
      );
      return child;
    };

    await up({ OUTRIDER_UP_USER: '0' });
    assert.equal((await exec()).stdout, '42\n');
    const token = readFileSync(join(place.state, 'token'), 'utf8');
    const pids = processesNaming(place.directory).map(({ pid }) => String(pid));
    spawnSync('kill', ['-9', ...pids]); // some end with others, before it is their turn
    await until('all is gone', () => processesNaming(place.directory).length === 0);
    assert.equal(statSync(socket).uid, 0, 'control: its socket is left, and root’s');
    assert.equal(statSync(join(place.state, 'runner', 'execs.jsonl')).uid, 0);

    const second = await up({});
    assert.equal(statSync(socket).uid, MESH_UID);
    assert.equal(statSync(join(place.state, 'runner', 'execs.jsonl')).uid, MESH_UID);
    assert.equal(statSync(join(place.state, 'audit', 'runner.jsonl')).uid, 0, 'it is held open');
    assert.equal(readFileSync(join(place.state, 'token'), 'utf8'), token);
    assert.equal((await exec()).stdout, '42\n');
    const verified = await place.outrider(['audit', 'verify', join(place.state, 'audit')]);
    assert.equal(verified.code, 0, verified.stdout + verified.stderr);
    second.kill('SIGINT');
    const [code]: unknown[] = await once(second, 'exit');
    assert.equal(code, 0);
    assert.deepEqual(readdirSync(place.runtime), []);
  },
);
