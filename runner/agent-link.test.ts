import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { AgentLink, type ExecSink, type StartOrder } from './agent-link.ts';
import type { AgentEnd } from './agent-reports.ts';
import { encodeFrame, FRAME, type Frame, readFrames } from './frames.ts';

/** A link over a real unix socket, whose other end is played here. What is sent to the agent is kept. */
async function rig(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-link-'));
  const path = join(root, 'control');
  const server = createServer();
  const near = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const agent = connect(path);
  const link = new AgentLink(await near, WAITING);
  const sent: Frame[] = [];
  const waiting: (() => void)[] = [];
  void (async () => {
    for await (const frame of readFrames(agent)) {
      sent.push({ ...frame, body: Buffer.from(frame.body) });
      for (const wake of waiting.splice(0)) wake();
    }
  })().catch(() => {});
  t.after(() => {
    link.close();
    agent.destroy();
    server.close();
    rmSync(root, { recursive: true, force: true });
  });
  const next = async (type: number): Promise<Frame> => {
    for (;;) {
      const at = sent.findIndex((frame) => frame.type === type);
      const [found] = at < 0 ? [] : sent.splice(at, 1);
      if (found) return found;
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
  };
  const say = (type: number, id: number, body: unknown = {}) =>
    agent.write(encodeFrame(type, id, Buffer.isBuffer(body) ? body : JSON.stringify(body)));
  return { link, agent, sent, next, say };
}

const WAITING = { profile: 'python', env: { PATH: '/bin' } };
const ORDER: StartOrder = { code: 'x', env: {}, cwd: '/', stdin: false, rlimits: {} };

/** Keeps what a sink is told. */
function sink() {
  const told: string[] = [];
  let over = (): void => {};
  const ended = new Promise<void>((resolve) => {
    over = resolve;
  });
  const state: { end?: AgentEnd } = {};
  const listens: ExecSink = {
    output: (stream, data) => void told.push(`${stream} ${data.toString()}`),
    skipped: (stream, bytes) => void told.push(`${stream} skipped ${bytes}`),
    end: (end) => {
      state.end = end;
      told.push('end');
      over();
    },
    lost: (message) => {
      told.push(`lost: ${message}`);
      over();
    },
  };
  return { ...state, state, told, ended, listens };
}

const END = { exit: 0, cpu: 0.75, maxrss: 4096, exception: null, artefacts: [] };

test('a program is started, heard and ended, in order', async (t) => {
  const { link, next, say } = await rig(t);
  const { told, state, ended, listens } = sink();
  say(FRAME.READY, 0);
  await link.ready();
  link.start(7, ORDER, listens);
  assert.deepEqual(JSON.parse((await next(FRAME.START)).body.toString()), ORDER);
  say(FRAME.STDOUT, 7, Buffer.from('a'));
  say(FRAME.STDERR, 7, Buffer.from('b'));
  say(FRAME.STDOUT, 8, Buffer.from("another's"));
  say(FRAME.END, 7, END);
  await ended;
  assert.deepEqual(told, ['stdout a', 'stderr b', 'end']);
  assert.deepEqual([state.end?.exit, state.end?.cpuMs, state.end?.maxRssBytes], [0, 750, 4_096]);
  assert.equal(state.end?.diskFull, false);
});

describe('an interpreter is asked for', () => {
  test('at once, by the profile and its environment', async (t) => {
    const { next } = await rig(t);
    assert.deepEqual(JSON.parse((await next(FRAME.PREPARE)).body.toString()), WAITING);
  });

  test('once for each program, and not while one runs', async (t) => {
    const { link, next, say, sent } = await rig(t);
    await next(FRAME.PREPARE);
    link.prepare();
    const { ended, listens } = sink();
    link.start(1, ORDER, listens);
    link.prepare();
    await next(FRAME.START);
    assert.deepEqual(sent, []);
    say(FRAME.END, 1, END);
    await ended;
    link.prepare();
    await next(FRAME.PREPARE);
    say(FRAME.READY, 0);
    await link.ready();
  });

  test('again after a program, for whoever waits for it meanwhile', async (t) => {
    const { link, next, say } = await rig(t);
    await next(FRAME.PREPARE);
    const { listens } = sink();
    link.start(1, ORDER, listens);
    say(FRAME.READY, 0); // it was on its way: of the one that runs already
    const ready = link.ready();
    say(FRAME.END, 1, END);
    await next(FRAME.PREPARE);
    say(FRAME.READY, 0);
    await ready;
  });

  test('and where there is none, whoever waits is told what the agent says', async (t) => {
    const { link, say } = await rig(t);
    const ready = link.ready();
    say(FRAME.FATAL, 0, { message: 'the sandbox has no node' });
    await assert.rejects(ready, { code: 'SANDBOX_FAILED', message: 'the sandbox has no node' });
    await assert.rejects(link.ready(), { code: 'SANDBOX_FAILED' });
  });

  test('and what the agent says of it is bounded', async (t) => {
    const { link, say } = await rig(t);
    const ready = link.ready();
    say(FRAME.FATAL, 0, { message: 'x'.repeat(100_000) });
    await assert.rejects(ready, ({ message }: Error) => message.length <= 500);
  });
});

test('a door is opened and everything killed by the number of the program', async (t) => {
  const { link, next } = await rig(t);
  link.start(7, { ...ORDER, door: 'shut' }, sink().listens);
  assert.equal(JSON.parse((await next(FRAME.START)).body.toString()).door, 'shut');
  link.openDoor(7);
  link.kill(7);
  assert.deepEqual([(await next(FRAME.DOOR)).id, (await next(FRAME.KILL)).id], [7, 7]);
});

test('a path that would lead out of where artefacts are saved is none', async (t) => {
  const { link, say } = await rig(t);
  const { state, ended, listens } = sink();
  link.start(1, ORDER, listens);
  const paths = ['../a', '/a', 'a/../../b', 'a//b', './a', 'a/.', '', 'a\0b', 'a/b', '..a'];
  say(FRAME.END, 1, { ...END, artefacts: paths.map((path) => ({ path, size: 1 })) });
  await ended;
  assert.deepEqual(
    state.end?.artefacts.map(({ path }) => path),
    ['a/b', '..a'],
  );
});

test('two programs at once are refused; one after the other are not', async (t) => {
  const { link, say } = await rig(t);
  const first = sink();
  link.start(1, ORDER, first.listens);
  assert.throws(() => link.start(2, ORDER, sink().listens), { code: 'SESSION_BUSY' });
  say(FRAME.END, 1, END);
  await first.ended;
  assert.doesNotThrow(() => link.start(2, ORDER, sink().listens));
});

describe('an exec is told exactly once that it is lost', () => {
  const losses: readonly (readonly [string, (r: Awaited<ReturnType<typeof rig>>) => void])[] = [
    ['when the agent goes', ({ agent }) => agent.destroy()],
    ['when the agent ends inside a frame', ({ agent }) => agent.end(Buffer.from([0, 0]))],
    ['on a frame that breaks the format', ({ agent }) => void agent.write(Buffer.alloc(9, 0xff))],
    ['on an end that cannot be read', ({ say }) => void say(FRAME.END, 1, Buffer.from('{"exi'))],
    ['on an end that is no object', ({ say }) => void say(FRAME.END, 1, Buffer.from('null'))],
    ['on a credit that is too short', ({ say }) => void say(FRAME.TAKEN, 1, Buffer.from('x'))],
    ['when the runner closes the link', ({ link }) => link.close()],
    ['on a fatal word of the agent', ({ say }) => void say(FRAME.FATAL, 1, { message: 'gone' })],
  ];
  for (const [what, lose] of losses)
    test(what, async (t) => {
      const all = await rig(t);
      const { told, ended, listens } = sink();
      all.link.start(1, ORDER, listens);
      await all.next(FRAME.START);
      lose(all);
      await ended;
      all.agent.destroy();
      await all.link.closed;
      assert.equal(told.length, 1);
      assert.match(told[0] ?? '', /^lost: /);
    });

  test('also where the sandbox was gone before', async (t) => {
    const { link, agent } = await rig(t);
    agent.destroy();
    await link.closed;
    const { told, listens } = sink();
    link.start(1, ORDER, listens);
    assert.deepEqual(told, ['lost: the sandbox is gone']);
  });
});

test('what the agent says is bounded before it is believed', async (t) => {
  const { link, say } = await rig(t);
  const { state, ended, listens } = sink();
  link.start(1, ORDER, listens);
  say(FRAME.END, 1, {
    exit: 1_000,
    cpu: 1e308,
    maxrss: 'much',
    exception: { type: 5 },
    artefacts: [...Array.from({ length: 300 }, () => ({ path: 'a', size: 1.5 })), 'x'],
  });
  await ended;
  const { end } = state;
  assert.equal(end?.exit, 1_000 & 0xff);
  assert.ok(end.cpuMs >= 0 && Number.isFinite(end.cpuMs));
  assert.equal(end.maxRssBytes, 0);
  assert.deepEqual(end.exception, { type: '', message: '', traceback: '' });
  assert.equal(end.artefacts.length, 256);
  assert.deepEqual(end.artefacts[0], { path: 'a', size: 1 });
});

test('stdin waits until the agent has taken what is under way', async (t) => {
  const { link, say, next } = await rig(t);
  link.start(1, { ...ORDER, stdin: true }, sink().listens);
  let done = false;
  const piece = Buffer.alloc(256 * 1024);
  const feeding = link.stdin(1, Buffer.concat([piece, piece])).then(() => {
    done = true;
  });
  await next(FRAME.STDIN);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(done, false);
  const taken = Buffer.alloc(4);
  taken.writeUInt32BE(piece.length);
  say(FRAME.TAKEN, 1, taken);
  await next(FRAME.STDIN);
  say(FRAME.TAKEN, 1, taken);
  await feeding;
});

test('stdin does not wait for a program that has ended', async (t) => {
  const { link, say, next } = await rig(t);
  link.start(1, { ...ORDER, stdin: true }, sink().listens);
  const feeding = link.stdin(1, Buffer.alloc(10 * 256 * 1024));
  await next(FRAME.STDIN);
  say(FRAME.END, 1, END);
  await feeding;
  await link.stdin(1, Buffer.from('late'));
});

describe('files', () => {
  test('an answer belongs to its question', async (t) => {
    const { link, say, next } = await rig(t);
    const [a, b] = [link.read('a'), link.read('b')];
    const [first, second] = [await next(FRAME.REQUEST), await next(FRAME.REQUEST)];
    say(FRAME.DATA, second.id, Buffer.from('of '));
    say(FRAME.DATA, second.id, Buffer.from('b'));
    say(FRAME.REPLY, second.id, { ok: true });
    say(FRAME.DATA, 99, Buffer.from('nobody asked'));
    say(FRAME.DATA, first.id, Buffer.from('of a'));
    say(FRAME.REPLY, first.id, { ok: true });
    assert.deepEqual([(await a).toString(), (await b).toString()], ['of a', 'of b']);
  });

  for (const [errno, code] of [
    ['ENOENT', 'FILE_NOT_FOUND'],
    ['ENOTDIR', 'FILE_NOT_FOUND'],
    ['ELOOP', 'FILE_REFUSED'],
    ['', 'FILE_REFUSED'],
  ] as const)
    test(`${errno || 'an unknown refusal'} is ${code}`, async (t) => {
      const { link, say, next } = await rig(t);
      const asked = link.stat('a');
      say(FRAME.REPLY, (await next(FRAME.REQUEST)).id, { ok: false, errno, message: 'no' });
      await assert.rejects(asked, { code });
    });

  test('a question that is open when the agent goes is answered', async (t) => {
    const { link, agent } = await rig(t);
    const asked = link.stat('a');
    agent.destroy();
    await assert.rejects(asked, { code: 'SANDBOX_FAILED' });
    await assert.rejects(link.stat('b'), { code: 'SANDBOX_FAILED' });
  });

  test('a refusal while the content is still coming is the answer, and breaks nothing else', async (t) => {
    const { link, say, next } = await rig(t);
    let refuse = (): void => {};
    const refused = new Promise<void>((resolve) => {
      refuse = resolve;
    });
    const content = async function* () {
      yield Buffer.from('a');
      await refused;
      await new Promise((resolve) => setTimeout(resolve, 20));
      yield Buffer.from('b');
    };
    const writing = link.write('a', content(), 0o644);
    const { id } = await next(FRAME.REQUEST);
    say(FRAME.REPLY, id, { ok: true });
    await next(FRAME.DATA_IN);
    say(FRAME.REPLY, id, { ok: false, errno: 'ENOSPC', message: 'No space left on device' });
    refuse();
    await assert.rejects(writing, { code: 'FILE_REFUSED', message: 'No space left on device' });
  });

  test('content that breaks off is abandoned at the agent, and the caller is told why', async (t) => {
    const { link, agent, say, next } = await rig(t);
    const content = async function* () {
      yield Buffer.from('a');
      throw new Error('the caller went away');
    };
    const writing = link.write('a', content(), 0o644);
    const { id } = await next(FRAME.REQUEST);
    say(FRAME.REPLY, id, { ok: true });
    const abandon = await next(FRAME.REQUEST);
    assert.deepEqual(JSON.parse(abandon.body.toString()), { op: 'abandon', write: id });
    say(FRAME.REPLY, abandon.id, { ok: true });
    await assert.rejects(writing, /the caller went away/);
    agent.destroy(); // nothing waits for an answer that nobody would hear
    await link.closed;
  });
});

test('ready resolves for each new interpreter, and fails with the sandbox', async (t) => {
  const { link, agent, say } = await rig(t);
  const first = link.ready();
  say(FRAME.READY, 0);
  await first;
  await link.ready();
  link.start(1, ORDER, sink().listens);
  const second = link.ready();
  agent.destroy();
  await assert.rejects(second, { code: 'SANDBOX_FAILED' });
});
