import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { type AttachRequest, type AttachResponse, SidecarServiceService } from '#proto';
import { ArtefactStore } from './artefacts.ts';
import { cgroupHost } from './cgroup.ts';
import { type Ending, Exec, type ExecOrder, NO_EGRESS } from './exec.ts';
import type { LauncherClient } from './launcher/client.ts';
import { startLauncher } from './launcher/test-rig.ts';
import type { SandboxShape } from './role-limits.ts';
import { Sandbox } from './sandbox.ts';
import { type DeniedEvent, sidecarClient } from './sidecar-link.ts';

const MIB = 2 ** 20;
const SHAPE: SandboxShape = {
  backend: 'bubblewrap',
  image: '',
  profile: 'python',
  resources: { memoryBytes: 128 * MIB, cpuMillis: 2_000, pids: 40, diskBytes: 8 * MIB },
};

const root = mkdtempSync(join(tmpdir(), 'o-'));
chmodSync(root, 0o755); // the sandboxes' users come through here
const directory = join(root, 'boxes');
mkdirSync(directory);
chmodSync(directory, 0o711);

type Asked = NonNullable<AttachRequest['request']>;
type Answer = NonNullable<AttachResponse['response']>;

/** Plays the sidecar over real gRPC: answers as one does, lets nothing out, and keeps what it was asked. */
class PlayedSidecar {
  readonly asked: Asked[] = [];
  readonly #server = new Server();
  readonly #calls = new Set<ServerDuplexStream<AttachRequest, AttachResponse>>();
  #last: ServerDuplexStream<AttachRequest, AttachResponse> | undefined;
  readonly path = join(root, 'sidecar.sock');
  #held: (() => void)[] | undefined;
  /** Answers no `bind` until the function returned is called. */
  holdBind(): () => void {
    this.#held = [];
    return () => {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const answer of held) answer();
    };
  }
  /** Said before the next `unbound`. */
  lastWord: Answer | undefined;
  /** Answers `bind` by going away. */
  refusesToBind = false;

  async start(): Promise<void> {
    this.#server.addService(SidecarServiceService, {
      attach: (call: ServerDuplexStream<AttachRequest, AttachResponse>) => this.#attach(call),
      relayControl: (call: ServerDuplexStream<unknown, unknown>) => call.end(),
    });
    await new Promise<void>((resolve, reject) => {
      const bound = (error: Error | null) => (error ? reject(error) : resolve());
      this.#server.bindAsync(`unix:${this.path}`, ServerCredentials.createInsecure(), bound);
    });
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  /** What was asked since the last time, by name. */
  take(): string[] {
    return this.asked.splice(0).map(({ $case }) => $case);
  }

  /** Says something to the attachment that spoke last. */
  say(response: Answer): void {
    this.#last?.write({ response });
  }

  /** Ends the attachment that spoke last, as the end of a sidecar does. */
  leave(): void {
    this.#last?.end();
  }

  #attach(call: ServerDuplexStream<AttachRequest, AttachResponse>): void {
    this.#calls.add(call);
    call.on('end', () => call.end());
    call.on('data', ({ request }: AttachRequest) => {
      if (!request) return;
      this.asked.push(request);
      this.#last = call;
      if (request.$case === 'bind' && this.refusesToBind) call.end();
      else {
        const response = answerTo(request);
        if (request.$case === 'unbind' && this.lastWord) call.write({ response: this.lastWord });
        const answer = () => void (response && call.write({ response }));
        if (request.$case === 'bind' && this.#held) this.#held.push(answer);
        else answer();
      }
    });
  }
}

function answerTo(request: Asked): Answer | undefined {
  if (request.$case === 'open') return { $case: 'opened', value: { clientCertificateSha256: '' } };
  if (request.$case === 'bind')
    return { $case: 'bound', value: { execId: request.value.execId, caCertificate: '' } };
  if (request.$case !== 'unbind') return undefined;
  return {
    $case: 'unbound',
    value: {
      execId: request.value.execId,
      allowed: 1n,
      denied: 2n,
      limited: 3n,
      failed: 4n,
      bytesOut: 5n,
      bytesIn: 6n,
      undeliveredRecords: 0n,
      auditHead: { writer: 'sc-1', seq: 9n, hash: 'f'.repeat(64) },
    },
  };
}

const sidecar = new PlayedSidecar();
const cgroups = cgroupHost(directory);
let boxes: LauncherClient;
const client = sidecarClient({ kind: 'unix', path: sidecar.path });
const artefacts = new ArtefactStore({
  directory: join(root, 'artefacts'),
  perExecBytes: 4 * MIB,
  totalBytes: 16 * MIB,
  keepMs: 60_000,
});
const made: Sandbox[] = [];

async function sandbox(): Promise<Sandbox> {
  const one = await Sandbox.create(
    {
      boxes,
      sidecars: { take: async () => ({ client, release() {} }), close: async () => {} },
    },
    SHAPE,
    () => false,
  );
  made.push(one);
  return one;
}

let kept: Sandbox;
before(async () => {
  await sidecar.start();
  boxes = await startLauncher(directory);
  kept = await sandbox();
});
after(async () => {
  await Promise.all(made.map((one) => one.end()));
  client.close();
  sidecar.stop();
  artefacts.close();
  await boxes.stop();
  rmSync(root, { recursive: true, force: true });
});

interface Options extends Partial<Omit<ExecOrder, 'start'>> {
  readonly stdin?: boolean;
  readonly argv?: readonly string[];
}

let number = 0;
function execOf(
  where: Sandbox,
  code: string,
  { stdin = false, argv, ...over }: Options = {},
): Exec {
  const id = `exec-${++number}`;
  const token = { jwt: 'a.b.c', expiresAt: new Date(0) };
  return new Exec(
    where,
    {
      id,
      start: {
        ...(argv ? { argv } : { code }),
        env: { PATH: '/usr/bin:/bin' },
        cwd: '/workspace',
        stdin,
        rlimits: where.box.rlimits,
      },
      binding: {
        execId: id,
        role: 'tester',
        policy: '{}',
        intercepts: false,
        policyDigest: 'd',
        token,
        principal: LOCAL_PRINCIPAL,
        requestId: 'req-1',
      },
      renew: async () => token,
      timeoutMs: 20_000,
      outputBytes: MIB,
      overflow: 'truncate',
      signal: new AbortController().signal,
      onDenied: () => {},
      artefacts,
      ...over,
    },
    number,
  );
}

interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly ending: Ending;
}

/** Everything that an exec says; asserts that it ends once, and last. */
async function read(exec: Exec): Promise<Outcome> {
  const text = { stdout: '', stderr: '' };
  const endings: Ending[] = [];
  for await (const event of exec.events()) {
    assert.equal(endings.length, 0, 'nothing comes after the end');
    if (event.kind === 'end') endings.push(event.ending);
    else text[event.stream] += event.chunk.data.toString();
  }
  const [ending] = endings;
  assert.ok(ending);
  assert.equal(await exec.ended, ending);
  return { ...text, ending };
}

async function started(where: Sandbox, code: string, options?: Options): Promise<Exec> {
  await where.link.ready();
  const exec = execOf(where, code, options);
  exec.start();
  return exec;
}

const run = async (code: string, options?: Options, where = kept): Promise<Outcome> =>
  read(await started(where, code, options));

/** Waits until the program has written something, which it does when it has got to where it will stay, and its door is bound. */
async function firstChunk(exec: Exec): Promise<AsyncGenerator> {
  const events = exec.events();
  await events.next();
  await exec.bound;
  return events;
}

const FOREVER = 'import time\nprint("up", flush=True)\nwhile True: time.sleep(1)';

describe('a program that ends by itself', () => {
  test('is exit with its code, its output, its cost and what went out, between bind and unbind', async () => {
    sidecar.take();
    const { stdout, stderr, ending } = await run(
      'import sys; print("out"); print("err", file=sys.stderr); sum(range(10**6)); sys.exit(7)',
    );
    assert.deepEqual([stdout, stderr], ['out\n', 'err\n']);
    assert.deepEqual(
      [ending.killedBy, ending.exitCode, ending.signal, ending.detail, ending.errorCode],
      ['exit', 7, '', '', ''],
    );
    assert.deepEqual(ending.stdout, { captured: 4, total: 4, dropped: 0 });
    assert.ok(ending.wallMs > 0 && ending.cpuMs > 0 && ending.maxRssBytes > MIB);
    assert.deepEqual(ending.egress, {
      allowed: 1,
      denied: 2,
      limited: 3,
      failed: 4,
      bytesOut: 5,
      bytesIn: 6,
      auditHead: { writer: 'sc-1', seq: 9, hash: 'f'.repeat(64) },
    });
    assert.deepEqual(sidecar.take(), ['bind', 'unbind']);
  });

  test('is signal where it died of one of its own', async () => {
    const { ending } = await run('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)');
    assert.deepEqual(
      [ending.killedBy, ending.signal, ending.exitCode],
      ['signal', 'SIGSEGV', undefined],
    );
  });

  test('is signal, not ours, where the caller sent it', async () => {
    const exec = await started(kept, FOREVER);
    await firstChunk(exec);
    exec.signal(15);
    assert.deepEqual(
      [(await exec.ended).killedBy, (await exec.ended).signal],
      ['signal', 'SIGTERM'],
    );
  });

  test('tells of an uncaught exception, as information', async () => {
    const { ending } = await run('raise KeyError("k")');
    assert.deepEqual(
      [ending.killedBy, ending.exitCode, ending.exception?.type],
      ['exit', 1, 'KeyError'],
    );
  });

  test('hears what is sent to it until its stdin is closed', async () => {
    const exec = await started(kept, 'import sys; print(sys.stdin.read().upper())', {
      stdin: true,
    });
    await exec.stdin(Buffer.from('ab'));
    await exec.stdin(Buffer.from('cd'));
    exec.closeStdin();
    assert.equal((await read(exec)).stdout, 'ABCD\n');
  });

  test('leaves small files with their content, large ones by name and size', async () => {
    const { ending } = await run(
      'open("/output/small", "w").write("abc"); open("/output/large", "wb").write(bytes(300_000))',
    );
    const [large, small] = ending.artefacts.toSorted((a, b) => b.size - a.size);
    assert.deepEqual([small?.path, small?.content.toString()], ['small', 'abc']);
    assert.deepEqual([large?.path, large?.size, large?.content.length], ['large', 300_000, 0]);
    assert.equal(small?.sha256, createHash('sha256').update('abc').digest('hex'));
    assert.equal(large?.sha256, createHash('sha256').update(Buffer.alloc(300_000)).digest('hex'));
    await run('import os; os.unlink("/output/small"); os.unlink("/output/large")');
  });
});

test('a sandbox that is ready has as much of the processors as one that is used', {
  skip: cgroups ? false : 'this host gives no control groups; .ci/run has them',
}, async () => {
  const one = await sandbox();
  const groups = readdirSync('/sys/fs/cgroup', { recursive: true, encoding: 'utf8' })
    .filter((path) => /\/cpu\.(shares|weight)$/.test(path) && path.includes(`/${one.id}/`))
    .map((path) => join('/sys/fs/cgroup', path));
  const [path] = groups;
  assert.ok(path, 'its group is there');
  const used = path.endsWith('shares') ? '1024' : '100';
  for (let tries = 0; readFileSync(path, 'utf8').trim() !== used; tries++) {
    assert.ok(tries < 500, readFileSync(path, 'utf8'));
    await new Promise((resolve) => setTimeout(resolve, 5)); // nobody waits for the launcher to have done it
  }
});

test('what a program leaves can be read when its sandbox is gone', async () => {
  const one = await sandbox();
  const exec = await started(one, 'open("/output/large", "wb").write(b"x" * 300_000)');
  await read(exec);
  await one.end();
  const pieces: Buffer[] = [];
  for await (const piece of artefacts.open(exec.order.id, 'large')) pieces.push(piece);
  assert.ok(Buffer.concat(pieces).equals(Buffer.alloc(300_000, 'x')));
});

test('a program runs while its door is being bound, and passes nothing before', async () => {
  const one = await sandbox();
  const said = sidecar.holdBind();
  const exec = await started(one, FOREVER);
  await exec.events().next();
  let bound: boolean | undefined;
  void exec.bound.then((value) => {
    bound = value;
  });
  await one.link.stat('/workspace');
  assert.equal(bound, undefined);
  said();
  assert.equal(await exec.bound, true);
  exec.kill('disconnect', 'enough');
  assert.equal((await exec.ended).egress.allowed, 1, 'it was bound, and so it was unbound');
});

describe('a program that is ended', () => {
  test('by its time-out is timeout, and not before it, and its sandbox can be used again', async () => {
    const from = performance.now();
    const { stdout, ending } = await run(FOREVER, { timeoutMs: 400 });
    const took = performance.now() - from;
    assert.equal(stdout, 'up\n');
    assert.deepEqual(
      [ending.killedBy, ending.exitCode, ending.signal, ending.errorCode, ending.detail],
      ['timeout', undefined, '', 'DEADLINE_EXCEEDED', 'time limit of 0.4 s reached'],
    );
    assert.ok(took >= 390, `${took} ms`);
    assert.equal((await run('print("again")')).stdout, 'again\n');
  });

  test('is not ended by a time-out that no timer can wait for', async () => {
    const { stdout, ending } = await run('import time; time.sleep(0.1); print("done")', {
      timeoutMs: 1_000 * 3_600_000,
    });
    assert.deepEqual([stdout, ending.killedBy], ['done\n', 'exit']);
  });

  test('by its time-out ends also where nobody reads what it writes', async () => {
    const exec = await started(kept, 'import sys\nwhile True: sys.stdout.write("x" * 65536)', {
      timeoutMs: 300,
      outputBytes: 64 * MIB,
    });
    assert.equal((await exec.ended).killedBy, 'timeout');
    const { stdout, ending } = await read(exec);
    assert.equal(stdout.length, ending.stdout.captured, 'what was taken is still there to be read');
    assert.ok(stdout.length > 0 && stdout.length < 4 * MIB, `${stdout.length} bytes were held`);
  });

  test('by its caller going away is disconnect, also where it was gone before the start', async () => {
    const gone = new AbortController();
    const exec = await started(kept, FOREVER, { signal: gone.signal });
    await firstChunk(exec);
    gone.abort();
    assert.equal((await exec.ended).killedBy, 'disconnect');
    const never = await started(kept, FOREVER, { signal: gone.signal });
    assert.equal((await read(never)).ending.killedBy, 'disconnect');
  });

  test('by its caller no longer listening is disconnect', async () => {
    const exec = await started(kept, FOREVER);
    const events = await firstChunk(exec);
    await events.return(undefined);
    assert.equal((await exec.ended).killedBy, 'disconnect');
  });

  test('by too much output is output, where that was asked for', async () => {
    const { stdout, ending } = await run('while True: print("x" * 100)', {
      outputBytes: 1_000,
      overflow: 'kill',
    });
    assert.equal(ending.killedBy, 'output');
    assert.equal(ending.detail, 'stdout is longer than 1000 bytes');
    assert.equal(stdout.length, 1_000);
    assert.ok(ending.stdout.total > 1_000);
  });

  test('control: the same output is only shortened where that was asked for', async () => {
    const { stdout, ending } = await run(
      'print("a" * 499 + "\\n" + "x" * 100_000 + "\\n" + "z" * 498)',
      {
        outputBytes: 1_000,
      },
    );
    assert.equal(ending.killedBy, 'exit');
    assert.equal(stdout, `${'a'.repeat(499)}\n\n${'z'.repeat(498)}\n`);
    assert.deepEqual(ending.stdout, { captured: 1_000, total: 101_000, dropped: 100_000 });
  });

  test('by the policy is policy', async () => {
    const exec = await started(kept, FOREVER);
    await firstChunk(exec);
    sidecar.say({
      $case: 'policyEnded',
      value: { execId: exec.order.id, errorCode: 'EGRESS_DENIED', rule: 'r' },
    });
    const { killedBy, errorCode } = await exec.ended;
    assert.deepEqual([killedBy, errorCode], ['policy', 'EGRESS_DENIED']);
  });

  test('for several reasons is ended for the first', async () => {
    const exec = await started(kept, FOREVER);
    await firstChunk(exec);
    exec.kill('disconnect', 'first', 'CANCELLED');
    exec.kill('runner', 'second');
    const { killedBy, detail, errorCode } = await exec.ended;
    assert.deepEqual([killedBy, detail, errorCode], ['disconnect', 'first', 'CANCELLED']);
    exec.kill('timeout', 'after the end');
    assert.equal((await exec.ended).killedBy, 'disconnect');
  });

  test('by the kernel for want of memory is oom, and says which limit', {
    skip: cgroups ? false : 'this host gives no control groups; .ci/run has them',
  }, async () => {
    const one = await sandbox();
    const { ending } = await run('keep = []\nwhile True: keep.append(bytearray(4 << 20))', {}, one);
    assert.deepEqual(
      [ending.killedBy, ending.exitCode, ending.detail],
      ['oom', undefined, 'memory limit of 128 MiB reached'],
    );
  });

  test('by the kernel in one of its children is oom, where it then fails of that', {
    skip: cgroups ? false : 'this host gives no control groups; .ci/run has them',
  }, async () => {
    const one = await sandbox();
    const child = 'keep = []\nwhile True: keep.append(bytearray(4 << 20))';
    const code = (end: string) =>
      `import subprocess, sys\nsubprocess.run([sys.executable, '-c', ${JSON.stringify(child)}])\n${end}`;
    const failed = await run(code('sys.exit(3)'), {}, one);
    assert.deepEqual(
      [failed.ending.killedBy, failed.ending.exitCode, failed.ending.detail],
      ['oom', undefined, 'memory limit of 128 MiB reached; the program ended with 3'],
    );
    const coped = await run(code('sys.exit(0)'), {}, one);
    assert.deepEqual([coped.ending.killedBy, coped.ending.exitCode], ['exit', 0]);
    const later = await run('raise SystemExit(3)', {}, one);
    assert.deepEqual([later.ending.killedBy, later.ending.exitCode], ['exit', 3], 'not by then');
  });

  const FORKS = `
import os, time
try:
    while True:
        if os.fork() == 0: time.sleep(60)
except BlockingIOError:
    `;
  test('by the limit of processes is pids, and says which limit', {
    skip: cgroups ? false : 'this host gives no control groups; .ci/run has them',
  }, async () => {
    const one = await sandbox();
    const { ending } = await run(`${FORKS}raise`, {}, one);
    assert.deepEqual(
      [ending.killedBy, ending.exitCode, ending.detail],
      ['pids', undefined, 'limit of 40 processes reached; the program ended with 1'],
    );
    assert.equal(ending.exception?.type, 'BlockingIOError');
    const coped = await run(`${FORKS}pass`, {}, one);
    assert.deepEqual([coped.ending.killedBy, coped.ending.exitCode], ['exit', 0]);
    const later = await run('raise SystemExit(1)', {}, one);
    assert.deepEqual([later.ending.killedBy, later.ending.exitCode], ['exit', 1], 'not by then');
  });

  test('by a full disk is disk, and says which limit', async () => {
    const one = await sandbox();
    const fill = 'while True: file.write(bytes(65536))';
    const { ending } = await run(`with open('a', 'wb') as file:\n    ${fill}`, {}, one);
    assert.deepEqual(
      [ending.killedBy, ending.exitCode, ending.detail],
      ['disk', undefined, 'disk limit of 8 MiB reached; the program ended with 1'],
    );
    const later = await run('import os; os.unlink("a"); raise SystemExit(1)', {}, one);
    assert.deepEqual([later.ending.killedBy, later.ending.exitCode], ['exit', 1]);
  });

  test('by its time-out takes every process of it along', async () => {
    const one = await sandbox();
    const code = `import os\nfor _ in range(20):\n    if os.fork() == 0: os.setsid(); break\n${FOREVER}`;
    const { ending } = await run(code, { timeoutMs: 300 }, one);
    assert.equal(ending.killedBy, 'timeout');
    assert.equal(one.alive, true, 'the agent did it: the sandbox was not needed to go');
  });

  test('control: SIGKILL of its own is no oom', async () => {
    const { ending } = await run('import os; os.kill(os.getpid(), 9)');
    assert.deepEqual([ending.killedBy, ending.signal], ['signal', 'SIGKILL']);
  });
});

describe('a sandbox that is lost', () => {
  test('with its sidecar: the program ends as runner with SIDECAR_LOST, and nothing is left', async () => {
    const one = await sandbox();
    const exec = await started(one, FOREVER);
    await firstChunk(exec);
    sidecar.leave();
    const { killedBy, errorCode, egress } = await exec.ended;
    assert.deepEqual([killedBy, errorCode], ['runner', 'SIDECAR_LOST']);
    assert.equal(egress.allowed, 0);
    await one.ended;
    assert.equal(one.alive, false);
    assert.equal(existsSync(join(directory, one.id)), false);
  });

  test('with its box: the program ends as runner with SANDBOX_FAILED', async () => {
    const one = await sandbox();
    const exec = await started(one, FOREVER);
    await firstChunk(exec);
    await one.box.kill();
    const { killedBy, errorCode } = await exec.ended;
    assert.deepEqual([killedBy, errorCode], ['runner', 'SANDBOX_FAILED']);
    await one.ended;
  });

  test('with the link to its agent: the same', async () => {
    const one = await sandbox();
    const exec = await started(one, FOREVER);
    await firstChunk(exec);
    one.link.close();
    const { killedBy, errorCode } = await exec.ended;
    assert.deepEqual([killedBy, errorCode], ['runner', 'SANDBOX_FAILED']);
    await one.ended;
  });

  test('before the door could be opened: the program ends as runner, and nothing has left', async () => {
    const one = await sandbox();
    sidecar.refusesToBind = true;
    try {
      const exec = await started(one, FOREVER);
      const { killedBy, errorCode, egress } = await exec.ended;
      assert.deepEqual([killedBy, errorCode, egress], ['runner', 'SIDECAR_LOST', NO_EGRESS]);
      assert.equal(await exec.bound, false);
    } finally {
      sidecar.refusesToBind = false;
    }
    await one.ended;
  });
});

test('each refusal at the door is told to the exec that is bound, and to no other', async () => {
  const denied: DeniedEvent[] = [];
  const exec = await started(kept, FOREVER, { onDenied: (event) => void denied.push(event) });
  const events = await firstChunk(exec);
  const refusal = {
    execId: exec.order.id,
    reason: 'host_not_allowed',
    rule: '',
    target: 'https://x/',
  };
  sidecar.say({ $case: 'denied', value: refusal });
  for (let tries = 0; denied.length === 0 && tries < 200; tries++)
    await new Promise((resolve) => setTimeout(resolve, 5));
  await events.return(undefined);
  await exec.ended;
  sidecar.say({ $case: 'denied', value: refusal });
  assert.equal((await run('print(1)')).stdout, '1\n');
  assert.deepEqual(
    denied.map(({ reason, target }) => [reason, target]),
    [['host_not_allowed', 'https://x/']],
  );
});

test('a refusal that is on its way when the program ends is told, too', async () => {
  const denied: DeniedEvent[] = [];
  const value = { execId: 'any', reason: 'host_not_allowed', rule: '', target: 'https://x/' };
  sidecar.lastWord = { $case: 'denied', value };
  await run('print(1)', { onDenied: (event) => void denied.push(event) });
  sidecar.lastWord = undefined;
  assert.deepEqual(
    denied.map(({ reason }) => reason),
    ['host_not_allowed'],
  );
});

test('the execution token is renewed every 30 s while the program runs, and never after', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  let renewals = 0;
  const exec = await started(kept, FOREVER, {
    renew: async () => ({ jwt: `renewed-${++renewals}`, expiresAt: new Date(0) }),
  });
  const events = await firstChunk(exec);
  sidecar.take();
  t.mock.timers.tick(29_999);
  assert.equal(renewals, 0);
  t.mock.timers.tick(1);
  for (let tries = 0; sidecar.asked.length === 0 && tries < 200; tries++)
    await new Promise((resolve) => setTimeout(resolve, 5));
  const [asked] = sidecar.asked.splice(0);
  assert.ok(asked?.$case === 'renew');
  assert.equal(asked.value.token?.jwt, 'renewed-1');
  await events.return(undefined);
  await exec.ended;
  sidecar.take();
  t.mock.timers.tick(60_000);
  await run('pass');
  assert.deepEqual(sidecar.take(), ['bind', 'unbind']);
});
