import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { cgroupHost, cgroupOf } from './cgroup.ts';

const LIMITS = { memoryBytes: 64 * 2 ** 20, cpuMillis: 500, pids: 20, diskBytes: 1 };

function tree(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'outrider-cgroup-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  return root;
}

function asVersion2(root: string, controllers: string): string {
  mkdirSync(root, { recursive: true });
  writeFileSync(join(root, 'cgroup.controllers'), `${controllers}\n`);
  writeFileSync(join(root, 'cgroup.subtree_control'), '');
  return root;
}

function asVersion1(root: string, controllers: readonly string[]): string {
  for (const controller of controllers) {
    mkdirSync(join(root, controller), { recursive: true });
    writeFileSync(join(root, controller, 'tasks'), '');
  }
  return root;
}

/** The group that holds the boxes of one runner. */
const baseOf = (directory: string): string =>
  join(directory, readdirSync(directory).find((name) => name.startsWith('outrider-')) ?? 'none');

const nameOf = (owner: string): string =>
  `outrider-${createHash('sha256').update(owner).digest('hex').slice(0, 12)}`;

/** Takes the files out of a group: the kernel's are no hindrance to its removal. */
function withoutFiles(group: string): string {
  for (const name of readdirSync(group)) rmSync(join(group, name));
  return group;
}

describe('which layout is used', () => {
  const cases: readonly (readonly [string, (root: string) => void, string | undefined])[] = [
    ['version 2', (root) => asVersion2(root, 'cpuset cpu io memory pids'), 'cgroup-v2'],
    [
      'both, version 2 with what is needed',
      (root) => {
        asVersion1(root, ['memory', 'pids', 'cpu']);
        asVersion2(join(root, 'unified'), 'memory pids');
      },
      'cgroup-v2',
    ],
    [
      'both, version 2 without memory',
      (root) => {
        asVersion1(root, ['memory', 'pids', 'cpu']);
        asVersion2(join(root, 'unified'), 'cpu');
      },
      'cgroup-v1',
    ],
    ['version 1', (root) => asVersion1(root, ['memory', 'pids', 'cpu']), 'cgroup-v1'],
    ['version 2 without pids', (root) => asVersion2(root, 'cpu memory'), undefined],
    ['version 1 without pids', (root) => asVersion1(root, ['memory', 'cpu']), undefined],
    ['none', () => {}, undefined],
  ];
  for (const [what, make, mechanism] of cases)
    test(`${what}: ${mechanism ?? 'none, and the caller is told'}`, (t) => {
      const root = tree(t);
      make(root);
      const host = cgroupHost('here', root);
      assert.equal(host?.create('box', LIMITS).mechanism, mechanism);
    });
});

test('version 2 turns its controllers on in the root and in its own group', (t) => {
  const root = asVersion2(tree(t), 'io memory pids cpu');
  cgroupHost('here', root);
  for (const directory of [root, baseOf(root)])
    assert.equal(
      readFileSync(join(directory, 'cgroup.subtree_control'), 'utf8'),
      '+memory +pids +cpu',
    );
});

test('the limits are written, and what a kernel does not have is said to be missing', (t) => {
  const two = asVersion2(tree(t), 'memory pids');
  const box = cgroupHost('here', two)?.create('box', LIMITS);
  const at = (name: string) => readFileSync(join(baseOf(two), 'box', name), 'utf8');
  assert.deepEqual([at('memory.max'), at('pids.max')], [String(64 * 2 ** 20), '20']);
  assert.equal(box?.limitsCpu, false);
  const one = asVersion1(tree(t), ['memory', 'pids', 'cpu']);
  cgroupHost('here', one)?.create('box', LIMITS);
  const memory = join(baseOf(join(one, 'memory')), 'box', 'memory.limit_in_bytes');
  assert.equal(readFileSync(memory, 'utf8'), String(64 * 2 ** 20));
});

test('a process is put under every controller, and the count of kills is read', async (t) => {
  const two = asVersion2(tree(t), 'memory pids cpu');
  const box2 = cgroupHost('here', two)?.create('box', LIMITS);
  await box2?.add(42);
  const at2 = join(baseOf(two), 'box');
  assert.equal(readFileSync(join(at2, 'cgroup.procs'), 'utf8'), '42');
  assert.equal(box2?.oomKills(), 0);
  writeFileSync(join(at2, 'memory.events'), 'low 0\noom 3\noom_kill 2\noom_group_kill 9\n');
  assert.equal(box2?.oomKills(), 2);

  const one = asVersion1(tree(t), ['memory', 'pids', 'cpu']);
  const box1 = cgroupHost('here', one)?.create('box', LIMITS);
  await box1?.add(42);
  for (const controller of ['memory', 'pids', 'cpu'])
    assert.equal(
      readFileSync(join(baseOf(join(one, controller)), 'box', 'cgroup.procs'), 'utf8'),
      '42',
    );
  const control = join(baseOf(join(one, 'memory')), 'box', 'memory.oom_control');
  writeFileSync(control, 'oom_kill_disable 0\nunder_oom 0\noom_kill 5\n');
  assert.equal(box1?.oomKills(), 5);
});

test("what an earlier runner left is swept, where it is empty; another runner's is not touched", async (t) => {
  const root = asVersion2(tree(t), 'memory pids cpu');
  const mine = cgroupHost('mine', root);
  mine?.create('left', LIMITS);
  const base = baseOf(root);
  withoutFiles(join(base, 'left'));
  mine?.create('full', LIMITS); // its files stand for processes here
  const others = cgroupHost('others', root);
  others?.create('box', LIMITS);
  for (const name of readdirSync(root))
    if (existsSync(join(root, name, 'box'))) withoutFiles(join(root, name, 'box'));
  const again = cgroupHost('mine', root);
  await again?.sweep();
  assert.equal(existsSync(join(base, 'left')), false);
  assert.equal(existsSync(join(base, 'full')), true);
  const groups = readdirSync(root).filter((name) => name.startsWith('outrider-'));
  assert.equal(groups.length, 2);
  assert.ok(groups.some((name) => existsSync(join(root, name, 'box'))));
});

describe('a group that is settled has the weight that the kernel gives to any', () => {
  const controllers = ['memory', 'pids', 'cpu'];
  const cases = [
    ['version 2', 'cpu.weight', '100', (root: string) => asVersion2(root, controllers.join(' '))],
    [
      'version 1',
      'cpu.shares',
      '1024',
      (root: string) => join(asVersion1(root, controllers), 'cpu'),
    ],
  ] as const;
  for (const [what, name, weight, make] of cases)
    test(what, (t) => {
      const root = tree(t);
      const above = make(root);
      const box = cgroupHost('here', root)?.create('box', LIMITS);
      const path = join(baseOf(above), 'box', name);
      assert.doesNotThrow(() => box?.settle(), 'a kernel without the controller has no weights');
      writeFileSync(path, 'less'); // the kernel makes it, with the group
      box?.settle();
      assert.equal(readFileSync(path, 'utf8'), weight);
    });
});

test('removing twice is removing once', (t) => {
  const root = asVersion2(tree(t), 'memory pids cpu');
  const box = cgroupHost('here', root)?.create('box', LIMITS);
  withoutFiles(join(baseOf(root), 'box'));
  box?.remove();
  assert.equal(existsSync(join(baseOf(root), 'box')), false);
  assert.doesNotThrow(() => box?.remove());
});

describe('the groups that an engine made', () => {
  const files: Readonly<Record<string, string>> = {
    'memory/d/x/memory.limit_in_bytes': '4096',
    'memory/d/x/memory.oom_control': 'oom_kill_disable 0\noom_kill 2',
    'pids/d/x/pids.max': '7',
    'pids/d/x/pids.events': 'max 3',
    'cpu/d/x/cpu.cfs_quota_us': '50000',
    'cpu/d/x/cpu.cfs_period_us': '100000',
    'd/x/memory.max': '4096',
    'd/x/memory.events': 'oom 9\noom_kill 2',
    'd/x/pids.max': '7',
    'd/x/pids.events': 'max 3',
    'd/x/cpu.max': '50000 100000',
  };
  const version1 = '9:name=systemd:/d/x\n8:pids:/d/x\n4:memory:/d/x\n1:cpu,cpuacct:/d/x\n0::/d/x';
  const groundOf = (t: TestContext, groups: string): string => {
    const root = tree(t);
    for (const [path, text] of Object.entries({ ...files, 'proc/42/cgroup': groups })) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), `${text}\n`);
    }
    return root;
  };
  for (const [mechanism, groups] of [
    ['cgroup-v1', version1],
    ['cgroup-v2', '0::/d/x'],
  ] as const)
    test(`are read: ${mechanism}`, (t) => {
      const root = groundOf(t, groups);
      const found = cgroupOf(42, root, join(root, 'proc'));
      assert.ok(found);
      assert.deepEqual(
        [found.mechanism, found.memoryBytes, found.cpuMillis, found.pids, found.counters()],
        [mechanism, 4_096, 500, 7, { oomKills: 2, pidsRefused: 3 }],
      );
      rmSync(join(root, 'memory'), { recursive: true });
      rmSync(join(root, 'd'), { recursive: true });
      assert.equal(found.counters().oomKills, 0, 'gone with the container');
    });
  test('are not guessed where they cannot be seen', (t) => {
    const root = groundOf(t, '0::/another/place');
    assert.equal(cgroupOf(42, root, join(root, 'proc')), undefined);
  });
  test('without a limit are unlimited', (t) => {
    const root = groundOf(t, '0::/d/x');
    writeFileSync(join(root, 'd/x/memory.max'), 'max\n');
    writeFileSync(join(root, 'd/x/cpu.max'), 'max 100000\n');
    const found = cgroupOf(42, root, join(root, 'proc'));
    assert.deepEqual([found?.memoryBytes, found?.cpuMillis], [Infinity, Infinity]);
  });
});

describe("the kernel's own control groups", {
  skip: cgroupHost(`probe-${process.pid}`) ? false : 'this host gives none; .ci/run has them',
}, () => {
  const host = cgroupHost(`test-${process.pid}`);
  before(() => cgroupHost(`probe-${process.pid}`)?.close());

  test('hold a process to its memory and its number of processes, and are gone after', async (t) => {
    const box = host?.create(`box-${process.pid}`, LIMITS);
    assert.ok(box && host);
    t.after(() => {
      box.remove();
      return host.close();
    });
    // Waits for a line, so that nothing has been used before it is in its group.
    const child = spawn(
      '/usr/bin/python3',
      [
        '-c',
        `
import os, sys
sys.stdin.readline()
made = 0
try:
    while made < 100:
        if os.fork() == 0: os.read(0, 1); os._exit(0)
        made += 1
except BlockingIOError: pass
print(made, flush=True)
keep = []
while True: keep.append(bytearray(1 << 20))
`,
      ],
      { stdio: ['pipe', 'pipe', 'ignore'] },
    );
    await box.add(child.pid ?? 0);
    child.stdin.write('\n');
    const [made] = await once(child.stdout, 'data');
    assert.equal(Number(String(made)), LIMITS.pids - 1);
    const [, signal] = await once(child, 'exit');
    child.stdin.end();
    assert.equal(signal, 'SIGKILL');
    assert.equal(box.oomKills(), 1);
    for (let tries = 0; tries < 100; tries++) {
      box.remove();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });

  test('are gone at the end, also with a process that is still ending', async () => {
    const ending = cgroupHost(`ending-${process.pid}`);
    const box = ending?.create(`box-${process.pid}`, LIMITS);
    assert.ok(box && ending);
    const child = spawn('/usr/bin/sleep', ['1000'], { stdio: 'ignore' });
    await box.add(child.pid ?? 0);
    const closed = ending.close();
    const name = nameOf(`ending-${process.pid}`);
    const groups = () => spawnSync('find', ['/sys/fs/cgroup', '-name', name], { encoding: 'utf8' });
    assert.notEqual(groups().stdout, '', 'control: a group in use cannot be removed');
    child.kill('SIGKILL');
    await closed;
    assert.equal(groups().stdout, '');
  });

  test('whose launcher died are ended and gone when the next one has swept', async (t) => {
    const dead = cgroupHost(`dead-${process.pid}`);
    const box = dead?.create(`left-${process.pid}`, LIMITS);
    assert.ok(box && dead);
    const child = spawn('/usr/bin/sleep', ['1000'], { stdio: 'ignore' });
    t.after(() => {
      child.kill('SIGKILL');
      return dead.close();
    });
    const exited = once(child, 'exit');
    await box.add(child.pid ?? 0);
    box.remove();
    const groups = () =>
      spawnSync('find', ['/sys/fs/cgroup', '-name', `left-${process.pid}`], { encoding: 'utf8' });
    assert.notEqual(groups().stdout, '', 'control: a group in use cannot be removed');
    await dead.sweep();
    assert.equal(groups().stdout, '');
    assert.deepEqual(await exited, [null, 'SIGKILL']);
  });
});
