import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createBoxes, type LiveBox, ownUids, processesOf } from './test-rig.ts';

/** How programs end, in real boxes: everything of them, with what they cost. */

const boxes = createBoxes(222_000);
after(() => boxes.close());
let box: LiveBox;
before(async () => {
  box = await boxes.profile('python');
});
beforeEach(() => box.link.ready());

/** A process that left its group, its session and its parent, holds no pipe, and ignores what can be ignored. */
const DAEMON = `
import os, signal, time
def daemon():
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            null = os.open('/dev/null', os.O_RDWR)
            for fd in (0, 1, 2): os.dup2(null, fd)
            os.write(write, b'x')
            while True: time.sleep(1)
        os._exit(0)
    os.wait()
    os.read(read, 1)
daemon()
`;
/** bubblewrap's own process, and the agent. */
const IDLE = 2;

describe('at its end nothing of a program is left', {
  skip: ownUids ? false : 'needs root, for a user of its own in each box; .ci/run runs as root',
}, () => {
  test('though a daemon of it goes on', async () => {
    const { end } = await box.run({ code: DAEMON });
    assert.equal(end?.exit, 0);
    assert.equal(processesOf(box.hostUid).length, IDLE);
  });

  test('though it is killed while a daemon goes on', async () => {
    const { id, outcome, wrote } = box.start({
      code: `${DAEMON}\nprint('up', flush=True)\nwhile True: time.sleep(1)`,
    });
    await wrote('up');
    assert.ok(processesOf(box.hostUid).length >= IDLE + 2, 'the daemon and the program');
    box.link.kill(id);
    assert.equal((await outcome).end?.signal, 9);
    assert.equal(processesOf(box.hostUid).length, IDLE);
  });

  test('though hundreds of processes were left', async () => {
    const { end } = await box.run({
      code: 'import os, time\nfor _ in range(50):\n    if os.fork() == 0: time.sleep(60)',
    });
    assert.equal(end?.exit, 0);
    assert.equal(processesOf(box.hostUid).length, IDLE);
  });

  test('control: while it runs, its daemon can be seen from outside', async () => {
    const { id, outcome, wrote } = box.start({
      code: `${DAEMON}\nprint('up', flush=True)\nwhile True: time.sleep(1)`,
    });
    await wrote('up');
    assert.ok(processesOf(box.hostUid).length > IDLE + 1);
    box.link.signal(id, 15);
    assert.equal((await outcome).end?.signal, 15);
  });
});

describe('the processor time of a program', () => {
  const BURN =
    'import time\nfrom_ = time.process_time()\nwhile time.process_time() - from_ < 0.3: pass\n';

  test('is its own', async () => {
    const { end } = await box.run({ code: BURN });
    assert.ok(end && end.cpuMs >= 290 && end.cpuMs < 3_000, `${end?.cpuMs} ms`);
  });

  test('is also that of an orphan which it never waited for', async () => {
    const { end } = await box.run({
      code: `
import os, time
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        ${BURN.trim().replaceAll('\n', '\n        ')}
        os.write(write, b'x')
    os._exit(0)
os.wait()
os.read(read, 1)
`,
    });
    assert.ok(end && end.cpuMs >= 290, `${end?.cpuMs} ms`);
  });

  test('is not what waiting for it had cost', async () => {
    const { end } = await (await boxes.profile('node')).run({
      language: 'javascript',
      name: 'main.mjs',
      code: '1',
    });
    const { end: cold } = await box.run({ argv: ['node', '-e', '1'] });
    assert.ok(end && cold && end.cpuMs < cold.cpuMs, `${end?.cpuMs} ms, and ${cold?.cpuMs} cold`);
  });
});

describe('a full disk', () => {
  const fill = (path: string) => `
try:
    with open('${path}', 'wb', buffering=0) as file:
        while True: file.write(bytes(65536))
except OSError as error:
    print(error.errno)
`;
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['is told of a program that fails of it', `${fill('/workspace/a')}raise SystemExit(1)`, true],
    [
      'is told also where it is not the workspace',
      `${fill('/dev/shm/a')}raise SystemExit(1)`,
      true,
    ],
    [
      'is told where the program dies of a signal',
      `${fill('/output/a')}import os; os.kill(os.getpid(), 6)`,
      true,
    ],
    ['is not told of a program that copes', fill('/tmp/a'), false],
    [
      'is not told where there is room again',
      `${fill('/tmp/a')}import os; os.unlink('/tmp/a'); raise SystemExit(1)`,
      false,
    ],
  ];
  for (const [what, code, told] of cases)
    test(what, async () => {
      const { stdout, end } = await box.run({ code });
      assert.equal(stdout, '28\n');
      assert.equal(end?.diskFull, told);
      await box.link.ready();
      await box.run({
        code: `import os
for path in ('/workspace/a', '/dev/shm/a', '/output/a', '/tmp/a'):
    if os.path.exists(path): os.unlink(path)`,
      });
    });

  test('control: a program that fails of something else is not told of it', async () => {
    assert.equal((await box.run({ code: 'raise SystemExit(1)' })).end?.diskFull, false);
  });
});

describe('the next program', () => {
  test('starts also where nothing waits for it', async () => {
    const outcome = box.run({ code: 'print(1)' });
    assert.equal((await outcome).stdout, '1\n');
    assert.equal((await box.run({ code: 'print(2)' })).stdout, '2\n');
  });

  test('knows nothing of the one before', async () => {
    await box.run({ code: 'import sys, os; sys.modules["left"] = sys; os.environ["LEFT"] = "1"' });
    await box.link.ready();
    const { stdout } = await box.run({
      code: 'import sys, os; print("left" in sys.modules, "LEFT" in os.environ)',
    });
    assert.equal(stdout, 'False False\n');
  });
});

test('a program that ends what waits for nobody else: only its own sandbox is lost', async () => {
  const one = await boxes.profile('python');
  await one.run({ code: 'print(1)' });
  one.link.close();
  await one.box.ended;
  assert.equal((await box.run({ code: 'print("alive")' })).stdout, 'alive\n');
});
