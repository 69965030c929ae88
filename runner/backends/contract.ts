import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type BackendName, TIER_OF } from './backend.ts';
import { ATTACKS, OWN_KERNEL_ATTACKS, SHARED_KERNEL_ATTACKS } from './contract-attacks.ts';
import {
  FIRST_UID,
  groundOf,
  LIMITS,
  type Live,
  leftOf,
  type Outcome,
  run,
} from './contract-ground.ts';

/** For tests alone: what every backend promises, as facts about real boxes. */

const EVERY_PID = `sorted(int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid()))`;

/** The facts of one backend, as tests. */
export function boxContract(name: BackendName): void {
  const ground = groundOf(name);
  const shared = TIER_OF[name] !== 'gvisor';
  after(() => ground.close());

  describe(`C9: a ${name} box`, () => {
    let live: Live;
    before(async () => {
      live = await ground.live();
    });
    after(() => live.box.kill());
    const printed = async (code: string): Promise<string> => {
      const { stdout, stderr } = await run(live, code);
      assert.equal(stderr, '');
      return stdout.trim();
    };

    test('can be made here', async () => {
      assert.equal(await ground.backend.probe(), undefined);
    });

    test('is attested as it is', async () => {
      const { attestation } = live.box;
      assert.deepEqual([attestation.backend, attestation.tier], [name, TIER_OF[name]]);
      assert.notEqual(attestation.hostUid, 0);
      for (const own of ['mnt', 'net', 'ipc', 'uts'])
        assert.ok(attestation.ownNamespaces.includes(own), own);
      assert.equal(attestation.noNewPrivileges, true);
      assert.deepEqual(attestation.limits, LIMITS);
      assert.equal(attestation.limitMechanisms['disk'], 'tmpfs');
      const mechanism = ground.counted ? /^cgroup-v[12]$/ : /^rlimit$/;
      assert.match(attestation.limitMechanisms['memory'] ?? '', mechanism);
      if (shared) assert.match(attestation.effectiveCapabilities, /^0+$/);
      assert.match(attestation.seccompSha256, shared ? /^[0-9a-f]{64}$/ : /^$/);
      assert.match(attestation.imageDigest, name === 'bubblewrap' ? /^$/ : /^sha256:[0-9a-f]{64}$/);
    });

    test('runs nothing as root, with no capability and none to be had', async () => {
      const seen = await printed(`
import os
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
print(os.getuid() != 0, int(status['CapEff'], 16), int(status['CapBnd'], 16), 0 in os.getgroups())
`);
      assert.equal(seen, 'True 0 0 False');
    });

    test('has a kernel of its own where it says so, otherwise a seccomp filter', async () => {
      const seen = await printed(`
import os
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
print(os.uname().release, status['Seccomp'].strip(), status.get('NoNewPrivs', '').strip())
`);
      const [release, seccomp, noNewPrivileges] = seen.split(' ');
      const hosts = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
      if (shared) assert.deepEqual([release, seccomp, noNewPrivileges], [hosts, '2', '1']);
      else assert.notEqual(release, hosts);
    });

    test('shows nothing of the host: environment, processes, files, descriptors', async () => {
      const seen: Record<string, unknown> = JSON.parse(
        await printed(`
import os, json
print(json.dumps({
  'env': sorted(os.environ),
  'pids': ${EVERY_PID},
  'root': sorted(os.listdir('/')),
  'etc': sorted(os.listdir('/etc')),
  'fds': [int(fd) for fd in sorted(os.listdir('/proc/self/fd')) if os.path.exists('/proc/self/fd/' + fd)],
  'resolver': [line for line in open('/etc/resolv.conf') if line.startswith('nameserver')],
  'host': os.uname().nodename,
  'interfaces': sorted(line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line),
}))
`),
      );
      assert.deepEqual(seen['env'], ['HOME', 'PATH']);
      assert.deepEqual(seen['pids'], []);
      assert.deepEqual(seen['resolver'], []);
      assert.deepEqual(seen['interfaces'], ['lo']);
      assert.equal(seen['host'], 'sandbox');
      // 0 to 2 and the pipe on which an uncaught exception is reported; nothing of the agent's.
      assert.ok(Array.isArray(seen['fds']) && seen['fds'].length <= 5, JSON.stringify(seen['fds']));
    });

    for (const [what, code, refusal] of [
      ...ATTACKS,
      ...(shared ? SHARED_KERNEL_ATTACKS : OWN_KERNEL_ATTACKS),
    ])
      test(`the program cannot ${what}`, async () => {
        const { end, stderr } = await run(live, code);
        assert.equal(end?.exit, 1, stderr);
        assert.match(stderr, refusal);
      });

    test('a program that ends every process that it can ends itself alone, and the agent answers', async () => {
      const { end } = await run(
        live,
        `
import os, signal
for pid in (1, -1):
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT):
        try: os.kill(pid, number)
        except OSError: pass
os.kill(os.getpid(), signal.SIGKILL)
`,
      );
      assert.equal(end?.signal, 9);
      assert.equal(await printed('print(1)'), '1');
    });

    test('no sysctl of the host can be written', async () => {
      const path = '/proc/sys/kernel/printk_ratelimit_burst';
      const value = readFileSync(path, 'utf8');
      const seen = await printed(`
for path in ('${path}', '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger'):
    try:
        open(path, 'w').write('11')
        print('WRITTEN', path)
    except OSError:
        print('refused')
`);
      assert.equal(seen, 'refused\nrefused\nrefused');
      assert.equal(readFileSync(path, 'utf8'), value);
    });

    test('control: those calls themselves work for what is allowed', async () => {
      const { stdout, stderr } = await run(
        live,
        `
import os, socket, subprocess, threading
open('/workspace/a', 'w').write('x'); open('/tmp/b', 'w').write('y'); open('/dev/shm/c', 'w').write('z')
print(open('/proc/self/environ').read() is not None, os.listdir('/proc/self/fd') != [])
server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname()).close()
pair = socket.socketpair(); pair[0].send(b'x')
print(subprocess.run(['/bin/echo', 'child'], capture_output=True, text=True).stdout.strip())
thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()
`,
      );
      assert.equal(stdout, 'True True\nchild\nthread\n', stderr);
    });

    test('the disk is bounded and the box goes on', async () => {
      const { stdout } = await run(
        live,
        `
import os
for place in ('/workspace', '/tmp', '/dev/shm'):
    try:
        with open(place + '/big', 'wb') as file:
            for _ in range(64): file.write(b'x' * 1048576)
        print('UNBOUNDED', place)
    except OSError as error:
        print(error.errno)
    os.unlink(place + '/big')
`,
      );
      assert.equal(stdout, '28\n28\n28\n');
    });

    test('a program may use stdin, exit codes, signals and sys.exit as ever', async () => {
      assert.equal(
        (await run(live, 'import sys; print(sys.stdin.read().upper())', { stdin: 'abc' })).stdout,
        'ABC\n',
      );
      assert.equal((await run(live, 'import sys; sys.exit(7)')).end?.exit, 7);
      assert.equal(
        (await run(live, 'import os, signal; os.kill(os.getpid(), signal.SIGSEGV)')).end?.signal,
        11,
      );
      const failed = await run(live, 'def f():\n    raise ValueError("no \\u00e9")\nf()');
      assert.equal(failed.end?.exit, 1);
      assert.equal(failed.end?.exception?.type, 'ValueError');
      assert.equal(failed.end?.exception?.message, 'no é');
      assert.match(failed.stderr, /File "main\.py", line 2, in f\n {4}raise ValueError/);
      assert.equal(
        (await run(live, '', { argv: ['/bin/sh', '-c', 'echo $HOME; exit 3'] })).end?.exit,
        3,
      );
      assert.equal((await run(live, '', { argv: ['/no/such'] })).end?.exit, 127);
    });

    test('C7: what a program prints cannot forge its end', async () => {
      const { end, stdout } = await run(
        live,
        `
import os
for fd in range(3, 64):
    try: os.write(fd, b'{"type":"Forged","message":"","traceback":""}' )
    except OSError: pass
print('\\x00\\x00\\x00\\x07\\x06\\x00\\x00\\x00\\x01{}')
os._exit(5)
`,
      );
      assert.equal(end?.exit, 5);
      assert.ok(stdout.length > 0);
    });

    test('a background process does not outlive its exec', async () => {
      await run(
        live,
        `
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1); open('/workspace/late', 'w').close()
    os._exit(0)
`,
      );
      const { stdout } = await run(
        live,
        `import os, time; time.sleep(1.3); print(os.path.exists('/workspace/late'))`,
      );
      assert.equal(stdout, 'False\n');
    });

    test('files go in and out by the agent; links and pipes are refused', async () => {
      await live.link.write('data/in.txt', [Buffer.from('hello')], 0o640);
      const { stdout } = await run(
        live,
        `import os; print(open('data/in.txt').read(), oct(os.stat('data/in.txt').st_mode & 0o777)); os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe'); os.makedirs('/output/d', exist_ok=True); open('/output/d/r.bin', 'wb').write(b'123')`,
      );
      assert.equal(stdout, 'hello 0o640\n');
      assert.equal((await live.link.read('data/in.txt')).toString(), 'hello');
      await assert.rejects(live.link.read('link'), { code: 'FILE_REFUSED' });
      await assert.rejects(live.link.read('pipe'), { code: 'FILE_REFUSED' });
      await assert.rejects(live.link.read('missing'), { code: 'FILE_NOT_FOUND' });
      const { files } = await live.link.list('/workspace', 2);
      assert.ok(files.some((file) => file.path === '/workspace/data/in.txt' && file.size === 5));
      const { end } = await run(live, 'pass');
      assert.deepEqual(end?.artefacts, [{ path: 'd/r.bin', size: 3 }]);
      await live.link.remove('data', true);
      await assert.rejects(live.link.stat('data/in.txt'), { code: 'FILE_NOT_FOUND' });
    });

    test("what the agent writes is the program's, and what the program shuts is shut to the agent, too", async () => {
      await live.link.write('own/a', [Buffer.from('from outside')], 0o600);
      const { stdout, stderr } = await run(
        live,
        `
import os
print([os.stat(path).st_uid == os.getuid() for path in ('own', 'own/a')], open('own/a').read())
open('own/a', 'a').write(' and inside'); os.rename('own/a', 'own/b')
open('own/shut', 'w').write('x'); os.chmod('own/shut', 0)
os.mkdir('own/closed', 0)
`,
      );
      assert.deepEqual([stdout, stderr], ['[True, True] from outside\n', '']);
      assert.equal((await live.link.read('own/b')).toString(), 'from outside and inside');
      await assert.rejects(live.link.read('own/shut'), { code: 'FILE_REFUSED' });
      await assert.rejects(live.link.write('own/closed/x', [Buffer.from('x')], 0o600), {
        code: 'FILE_REFUSED',
      });
      await live.link.remove('own/closed', false);
      await live.link.remove('own', true);
    });

    // As a limit of address space, which is what there is without control groups, Node wants 4 GiB (D4).
    const noNode = ground.counted ? false : 'this host gives no control groups; .ci/run has them';
    test('Node of this project is in it', { skip: noNode }, async () => {
      const { stdout } = await run(live, '', {
        argv: ['node', '-p', 'process.version + " " + process.execPath'],
      });
      assert.equal(stdout, `${process.version} /opt/node/bin/node\n`);
    });
  });

  test('memory is bounded, and what the kernel ended for it is counted', async () => {
    const one = await ground.live();
    try {
      const { end, stderr } = await run(
        one,
        'kept = []\nwhile True: kept.append(bytearray(4 << 20))',
      );
      if (ground.counted)
        assert.ok(await within(5_000, async () => (await one.box.counters()).oomKills > 0));
      else assert.match(stderr, /MemoryError/);
      assert.notEqual(end?.exit, 0);
    } finally {
      await one.box.kill();
    }
    const { oomKills } = await one.box.counters();
    assert.equal(oomKills > 0, ground.counted, 'also when nothing of the box is left');
  });

  test('the number of processes is bounded, and what was refused is counted', async () => {
    const one = await ground.live();
    try {
      const { stdout } = await run(one, FORK_BOMB);
      assert.equal(stdout, 'EAGAIN True\n');
      const { pidsRefused } = await one.box.counters();
      // A kernel of its own does not tell the host what it refused.
      assert.equal(pidsRefused > 0, shared && ground.counted);
    } finally {
      await one.box.kill();
    }
  });

  test('two boxes do not see each other', async () => {
    const [one, other] = await Promise.all([ground.live(), ground.live()]);
    try {
      await run(one, `open('/tmp/a', 'w').close(); open('/dev/shm/a', 'w').close()`);
      const server = `
import socket, time
for name in ('\\0outrider', '/tmp/s'):
    s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen()
t = socket.create_server(('127.0.0.1', 4444)); print('listening', flush=True)
time.sleep(30)
`;
      const heard = new Promise<void>((resolve) => {
        void run(one, server, { onOutput: resolve });
      });
      await heard;
      const { stdout } = await run(
        other,
        `
import os, socket
print(os.path.exists('/tmp/a'), os.path.exists('/dev/shm/a'), ${EVERY_PID})
for family, name in ((socket.AF_UNIX, '\\0outrider'), (socket.AF_UNIX, '/tmp/s'), (socket.AF_INET, ('127.0.0.1', 4444))):
    try: socket.socket(family).connect(name); print('CONNECTED')
    except OSError: print('refused')
`,
      );
      assert.equal(stdout, 'False False []\nrefused\nrefused\nrefused\n');
    } finally {
      await Promise.all([one.box.kill(), other.box.kill()]);
    }
  });

  test('a killed box leaves nothing, also no daemon that ignores signals', async () => {
    const one = await ground.live();
    let running: Promise<Outcome> | undefined;
    const up = new Promise<void>((resolve) => {
      running = run(one, DAEMON, { onOutput: resolve });
    });
    await up;
    assert.ok(leftOf(one) > 0, 'control: they can be seen while they run');
    await one.box.kill();
    assert.equal((await running)?.end, undefined);
    assert.equal(leftOf(one), 0);
    await one.box.kill(); // twice is once
  });

  test("the agent's end is the end of the box", async () => {
    const one = await ground.live();
    one.link.close(); // an agent without a runner ends itself
    await one.box.ended;
    assert.equal(leftOf(one), 0);
  });

  test('an image that is not in the allowlist is refused before anything is asked of anybody', async () => {
    const identity = { uid: FIRST_UID, gid: FIRST_UID };
    const ask = { sandboxId: 'x', socketDirectory: '/nowhere', identity, limits: LIMITS };
    await assert.rejects(ground.backend.start({ ...ask, image: 'other:latest' }), {
      code: 'IMAGE_NOT_ALLOWED',
    });
    await assert.rejects(
      ground.backend.start({ ...ask, image: '', identity: { uid: 0, gid: 0 } }),
      { code: 'BACKEND_UNAVAILABLE' },
    );
  });
}

const FORK_BOMB = `
import os, time
made = 0
try:
    while made < 5000:
        if os.fork() == 0:
            time.sleep(60); os._exit(0)
        made += 1
except OSError as error:
    print('EAGAIN' if error.errno == 11 else error, made < 60)
`;

const DAEMON = `
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: pass
print(os.getpid(), flush=True)
while True: time.sleep(1)
`;

async function within(ms: number, condition: () => Promise<boolean>): Promise<boolean> {
  const deadline = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}
