import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ExampleApi, startExampleApi } from '../support/example-api.ts';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { processesNaming, readProc } from '../support/processes.ts';

// What the mesh does when a part of it dies, a policy breaks, or somebody starts it twice.

const TOKEN = 'example-token-91ab3c5d7e';
/** Calls the datasource again and again, whatever becomes of a call. */
const CALLING = `
import os, time, urllib.request
while True:
    try: print(urllib.request.urlopen(os.environ["OUTRIDER_URL"] + "/http/example/items", timeout=20).status, flush=True)
    except OSError as error: print(error, flush=True)
    time.sleep(0.02)
`;
const env = { OUTRIDER_RUNNER_DRAIN_TIMEOUT: '300ms' };

async function start(sharing: string): Promise<{ mesh: RunningMesh; api: ExampleApi }> {
  const policy = (text: string) =>
    text.replaceAll('rate: 120/min, burst: 20', 'rate: 6000/min, burst: 600');
  const mesh = await startMesh({ env: { ...env, OUTRIDER_UP_SHARING: sharing }, policy });
  mesh.writeSecret('example-api-token', TOKEN);
  return { mesh, api: await startExampleApi(mesh.ports.example, TOKEN) };
}

const answers = async (mesh: RunningMesh) => {
  const { stdout } = await mesh.sdk.run('print(6 * 7)');
  return stdout === '42\n';
};
const recovers = (mesh: RunningMesh) =>
  until('the mesh runs programs again', () => answers(mesh).catch(() => false));

for (const sharing of ['host', 'none'])
  test(`E1: kill -9 of the sidecar ends the exec and its traffic, and the mesh recovers (sharing ${sharing})`, async () => {
    const { mesh, api } = await start(sharing);
    try {
      const running = mesh.sdk.run(CALLING, { timeoutMs: 60_000 });
      await until('the program calls out', () => api.asked.length >= 3);
      const sidecars = mesh.processes().filter(({ argv }) => argv.includes('sidecar'));
      assert.ok(sidecars.length > 0);
      for (const { pid } of sidecars) process.kill(pid, 'SIGKILL');
      const soFar = api.asked.length;
      const { killedBy, exitCode, raw } = await running;
      assert.deepEqual([killedBy, exitCode, raw.errorCode], ['runner', undefined, 'SIDECAR_LOST']);
      await sleep(300);
      // It asks for one thing at a time: what was on its way at the proxy may still arrive, and nothing new.
      assert.ok(api.asked.length - soFar <= 1, `${api.asked.length - soFar} more`);
      await recovers(mesh);
      const again = await mesh.sdk.run(CALLING.replace('while True', 'for _ in range(2)'));
      assert.equal(again.stdout, '200\n200\n');
    } finally {
      await api.close();
      await mesh.stop();
    }
  });

/** The runner's own word on itself. */
const state = async (of: RunningMesh): Promise<Readonly<Record<string, unknown>>> => {
  const answer = await fetch(`http://127.0.0.1:${of.ports.runner}/readyz`);
  return Object(await answer.json());
};

let mesh: RunningMesh;
let api: ExampleApi;
before(async () => {
  ({ mesh, api } = await start('auto'));
});
after(async () => {
  await api.close();
  await mesh.stop();
});

for (const part of ['proxy', 'runner', 'server', 'gateway'] as const)
  test(`kill -9 of the ${part}: it is started again, and everything works as before`, async () => {
    const killed = mesh.part(part);
    process.kill(killed, 'SIGKILL');
    await until('it is gone', () => readProc(killed, 'cmdline') === '');
    await until('it runs again', () => {
      const found = mesh.processes().filter(({ argv }) => argv.includes(part));
      return found.some(({ pid }) => pid !== killed);
    });
    const port = mesh.ports[part];
    await until(`the ${part} is ready`, () =>
      fetch(`http://127.0.0.1:${port}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    assert.match(mesh.log(), new RegExp(`${part} .*ended with signal SIGKILL; starting it again`));
    await recovers(mesh);
    const { stdout } = await mesh.sdk.run(CALLING.replace('while True', 'for _ in range(1)'));
    assert.equal(stdout, '200\n');
    const left = mesh.processes().filter(({ parent }) => parent === 1);
    assert.deepEqual(left, [], 'nothing of the killed part runs on');
  });

test('L1: while the proxy is away runner, server and gateway are not ready, and say where to look; and are again', async () => {
  const { runner, server } = mesh.ports;
  const gateway = Number(new URL(mesh.url).port);
  const ready = async (port: number) => {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
    return answer.ok ? '' : Object.keys(Object(await answer.json()).problems).join();
  };
  const all = async () => Promise.all([runner, server, gateway].map(ready));
  await until('control: they are ready', async () => (await all()).join('') === '');
  const away = new AbortController();
  const keptAway = (async () => {
    for (; !away.signal.aborted; await sleep(20))
      for (const { pid } of mesh.processes().filter(({ argv }) => argv.includes('proxy')))
        spawnSync('kill', ['-KILL', String(pid)]); // it may be gone by now
  })();
  await until(
    'they say so',
    async () => (await all()).join(' ') === 'proxy runner servers',
  ).finally(() => away.abort());
  await keptAway;
  await until('they are ready', async () => (await all()).join('') === '');
  await recovers(mesh);
});

test('kill -9 of the launcher: its runner says so and ends, and is started again with everything that it had cleared up', async () => {
  const [launcher, runner] = [mesh.part('launcher'), mesh.part('runner')];
  const running = mesh.sdk.run('import time; time.sleep(60)', { timeoutMs: 60_000 });
  await until('it runs', async () => (await state(mesh))['running'] === 1);
  process.kill(launcher, 'SIGKILL');
  const told = await running.then(
    ({ killedBy }) => killedBy,
    (error: unknown) => String(Object(error).code),
  );
  assert.match(told, /^(runner|14)$/); // UNAVAILABLE, where the runner was gone before it could tell
  await until('the runner ends', () => readProc(runner, 'cmdline') === '');
  assert.match(mesh.log(), /the launcher ended: its sandboxes ended with it/);
  await recovers(mesh);
  assert.match(mesh.log(), /runner .*ended with exit code 1; starting it again/);
  assert.notEqual(mesh.part('launcher'), launcher);
  const left = mesh.processes().filter(({ parent }) => parent === 1);
  assert.deepEqual(left, [], 'nothing of the killed one runs on');
});

test('a second `outrider up` in the same place is refused, and the first runs on untouched', async () => {
  const second = await mesh.outrider(['up']);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /a mesh of this user is running already: stop it first/);
  assert.equal(second.stdout, '');
  assert.ok(await answers(mesh));
  assert.equal((await fetch(new URL('/readyz', mesh.url))).status, 200);
  assert.equal(readFileSync(join(mesh.state, 'token'), 'utf8').trim(), mesh.token);
});

test('a policy file that breaks is named with line and column, the old policy stays, and a good one replaces it', async () => {
  const file = join(mesh.policies, 'egress-analyst.yaml');
  const good = readFileSync(file, 'utf8');
  const call = async () => {
    const one = CALLING.replace('while True', 'for _ in range(1)');
    return (await mesh.sdk.run(one)).stdout.trim();
  };
  const digest = async () => {
    const answer = await fetch(`http://127.0.0.1:${mesh.ports.proxy}/readyz`);
    return Object(await answer.json()).policyDigest;
  };
  const old = await digest();
  writeFileSync(file, good.replace('methods: [GET, HEAD]', 'metods: [GET, HEAD]'));
  const place = /egress-analyst\.yaml:\d+:\d+: .*metods/;
  await until(
    'both parts say so',
    () => (mesh.log().match(new RegExp(place, 'g')) ?? []).length >= 2,
  );
  assert.equal(await call(), '200');
  assert.equal(await digest(), old);

  writeFileSync(
    file,
    good
      .replace('id: example-read', 'id: example-read-2')
      .replace('example-read,', 'example-read-2,'),
  );
  await sleep(300); // its PolicyTest still wants the old name: a policy that fails its tests does not replace one that passes
  assert.equal(await digest(), old);

  writeFileSync(
    file,
    `${good}    - {id: another-site, hosts: [www.example.com], protocols: [tunnel]}\n`,
  );
  await sleep(500);
  assert.equal(await digest(), old, 'the Boundary does not allow that host');

  writeFileSync(file, good.replace('rate: 30/min, concurrent: 2', 'rate: 31/min, concurrent: 2'));
  await until('the good one is taken', async () => (await digest()) !== old);
  assert.equal(await call(), '200');
  writeFileSync(file, good);
  await until('and the first again', async () => (await digest()) === old);
});

test('Ctrl-C while a program runs and a session is kept: everything ends, nothing is left', async () => {
  const { mesh: other, api: origin } = await start('auto');
  await other.sdk.run('open("kept", "w")', { session: 'kept' });
  const { events } = other.sdk.start('print("on", flush=True); import time; time.sleep(60)', {
    timeoutMs: 60_000,
  });
  const said = events[Symbol.asyncIterator]();
  await said.next(); // it runs
  const outcome = (async (): Promise<unknown> => {
    for (let next = await said.next(); !next.done; next = await said.next())
      if (next.value.stream === 'end') return next.value.end.killedBy;
    return undefined;
  })().catch((error: unknown) => error);
  const started = performance.now();
  try {
    await other.stop();
  } finally {
    await origin.close();
  }
  assert.ok(performance.now() - started < 50_000); // the program would run for a minute
  assert.equal(await outcome, 'runner');
});

test('a second runner in the place of a running one is refused, and the first loses nothing', async () => {
  const second = await mesh.outrider([
    'runner',
    `--policies=${mesh.policies}`,
    `--listen=unix:${mesh.runtime}/second.sock`,
    '--admin=127.0.0.1:0',
    '--tcp=127.0.0.1:0',
    '--bubblewrap=/no/such',
  ]);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /another runner uses .*: give this one a runner\.sandboxDirectory/);
  for (let run = 0; run < 4; run++) assert.equal(await answers(mesh), true); // more than are warm
});

test('a terminal that is closed ends the mesh as Ctrl-C does, and leaves no key of this run', async () => {
  const { mesh: other, api: origin } = await start('auto');
  try {
    const ended = once(other.supervisor, 'exit');
    other.supervisor.kill('SIGHUP');
    assert.deepEqual(await ended, [0, null]);
    assert.deepEqual(processesNaming(other.directory), []);
    assert.equal(existsSync(join(other.runtime, 'keys')), false);
    assert.equal(existsSync(join(other.runtime, 'local-assertion.jwt')), false);
  } finally {
    other.sdk.close();
    other.remove();
    await origin.close();
  }
});

test('kill -9 of the supervisor ends every part, and `outrider up` starts again in the same place', async () => {
  const { mesh: other, api: origin } = await start('none');
  try {
    const running = other.sdk.run('import time; time.sleep(60)', { timeoutMs: 60_000 });
    running.catch(() => {});
    await sleep(300);
    const dead = once(other.supervisor, 'exit');
    other.supervisor.kill('SIGKILL');
    await dead;
    await until('no process is left', () => processesNaming(other.directory).length === 0);
    const again = other.start(['up']);
    let said = '';
    again.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('it is ready', () => said.includes('Outrider is ready'));
    const ended = once(again, 'exit');
    again.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
  } finally {
    other.sdk.close();
    other.remove();
    await origin.close();
  }
});
