import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerJson } from '#core/http';
import { packageRoot } from '#core/package-root';
import { type Answering, ask, playGateway } from './testing.ts';

const SCRIPT =
  "import { mcp } from './cli/mcp.ts'; process.exitCode = await mcp(process.argv.slice(1), process.env, process);";
const TIME = { timeout: 120_000 };

/** `outrider mcp` as a process of its own. */
class Front {
  readonly child: ChildProcessWithoutNullStreams;
  stdout = '';
  stderr = '';

  constructor(t: TestContext, options: readonly string[], env: Record<string, string> = {}) {
    const root = mkdtempSync(join(tmpdir(), 'outrider-front-'));
    const node = ['--conditions=outrider-source', '--input-type=module', '-e', SCRIPT, '--'];
    this.child = spawn(process.execPath, [...node, ...options], {
      cwd: packageRoot,
      env: { OUTRIDER_STATE_DIR: root, ...env },
    });
    this.child.stdout.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.child.stderr.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    t.after(() => {
      this.child.kill('SIGKILL');
      rmSync(root, { recursive: true, force: true });
    });
  }

  send(...messages: readonly unknown[]): void {
    for (const message of messages)
      this.child.stdin.write(
        `${typeof message === 'string' ? message : JSON.stringify(message)}\n`,
      );
  }

  /** Every line of stdout, once there are `count`; each must be JSON. */
  async lines(count: number): Promise<unknown[]> {
    while (this.stdout.split('\n').length <= count) await once(this.child.stdout, 'data');
    return this.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  }

  /** Closes stdin; resolves to the exit code and the milliseconds it took. */
  async end(): Promise<{ code: number; ms: number }> {
    const started = performance.now();
    this.child.stdin.end();
    const [code] = await once(this.child, 'close');
    return { code, ms: performance.now() - started };
  }
}

test(
  'answers come as one line each, from JSON and from events, and stdout holds nothing else',
  TIME,
  async (t) => {
    const url = await playGateway(t, ({ id, method }, _, response) => {
      if (method === 'ping')
        answerJson(response, 200, { jsonrpc: '2.0', id, result: { is: 'json' } });
      else {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(': keep-alive\n\n');
        response.write('data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n');
        response.end(`id: 1\ndata: {"jsonrpc":"2.0",\ndata: "id":${id},"result":{}}\n\n`);
      }
    });
    const front = new Front(t, ['--url', url]);
    front.send(ask(1));
    await front.lines(1);
    front.send(ask(2, 'tools/call'));
    assert.deepEqual(await front.lines(3), [
      { jsonrpc: '2.0', id: 1, result: { is: 'json' } },
      { jsonrpc: '2.0', method: 'notifications/progress' },
      { jsonrpc: '2.0', id: 2, result: {} },
    ]);
    assert.equal((await front.end()).code, 0);
  },
);

test('requests run at the same time', TIME, async (t) => {
  const waiting: (() => void)[] = [];
  const url = await playGateway(t, ({ id }, _, response) => {
    waiting.push(() => answerJson(response, 200, { jsonrpc: '2.0', id, result: {} }));
    if (waiting.length === 3) for (const answer of waiting.toReversed()) answer();
  });
  const front = new Front(t, ['--url', url]);
  front.send(ask(1), ask(2), ask(3));
  const ids = (await front.lines(3)).map((line) => Object(line).id);
  assert.deepEqual(new Set(ids), new Set([1, 2, 3]));
});

test(
  'the session and version of initialize are sent from then on, and the session is ended',
  TIME,
  async (t) => {
    const seen: unknown[][] = [];
    const url = await playGateway(t, ({ id, method }, { headers, method: verb }, response) => {
      seen.push([method ?? verb, headers['mcp-session-id'], headers['mcp-protocol-version']]);
      if (id === undefined) response.writeHead(202).end();
      else {
        const result = { protocolVersion: '2025-06-18' };
        const extra: Record<string, string> =
          method === 'initialize' ? { 'mcp-session-id': 's-1' } : {};
        answerJson(response, 200, { jsonrpc: '2.0', id, result }, extra);
      }
    });
    const front = new Front(t, ['--url', url]);
    front.send(
      ask(1, 'initialize'),
      { jsonrpc: '2.0', method: 'notifications/initialized' },
      ask(2),
    );
    await front.lines(2);
    await front.end();
    const listening = ['GET', 's-1', '2025-06-18'];
    assert.deepEqual(
      seen.filter((call) => call.join() !== listening.join()),
      [
        ['initialize', undefined, undefined],
        ['notifications/initialized', 's-1', '2025-06-18'],
        ['ping', 's-1', '2025-06-18'],
        ['DELETE', 's-1', '2025-06-18'],
      ],
    );
  },
);

const TOKENS = [
  ['the environment', { OUTRIDER_TOKEN: 'from-env' }, [], 'Bearer from-env'],
  [
    'a file that is named',
    { OUTRIDER_TOKEN: 'from-env' },
    ['--token-file', 'FILE'],
    'Bearer from-file',
  ],
  ['nowhere', {}, [], undefined],
] as const;

for (const [where, env, options, expected] of TOKENS)
  test(`the token comes from ${where}, and is on no output`, TIME, async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'outrider-token-'));
    t.after(() => rmSync(root, { recursive: true, force: true }));
    const file = join(root, 'token');
    writeFileSync(file, 'from-file\n', { mode: 0o600 });
    let sent: string | undefined;
    const url = await playGateway(t, (_, { headers }, response) => {
      sent = headers.authorization;
      response.writeHead(401).end();
    });
    const named = options.map((option) => (option === 'FILE' ? file : option));
    const front = new Front(t, ['--url', url, ...named], env);
    front.send(ask(1));
    const [answer] = await front.lines(1);
    assert.equal(Object(answer).error.data.code, 'UNAUTHENTICATED');
    assert.equal(sent, expected);
    await front.end();
    assert.ok(!/from-(env|file)/.test(front.stdout + front.stderr));
  });

test('a cancelled request is closed at the gateway and gets no answer', TIME, async (t) => {
  let closed = () => {};
  const atGateway = new Promise<void>((resolve) => {
    closed = resolve;
  });
  const url = await playGateway(t, ({ id, method }, _, response) => {
    if (method === 'ping') answerJson(response, 200, { jsonrpc: '2.0', id, result: {} });
    else {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
      response.once('close', closed);
      front.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } });
    }
  });
  const front = new Front(t, ['--url', url]);
  front.send(ask(1, 'tools/call'));
  await atGateway;
  front.send(ask(2));
  assert.deepEqual(await front.lines(1), [{ jsonrpc: '2.0', id: 2, result: {} }]);
});

const FAILURES: readonly (readonly [string, Answering, object])[] = [
  [
    'a refusal of the gateway keeps its words',
    (_, __, response) =>
      answerJson(response, 413, {
        jsonrpc: '2.0',
        id: null,
        error: { code: -32_000, message: 'too large' },
      }),
    { code: -32_000, message: 'too large' },
  ],
  [
    'a status without words',
    (_, __, response) => void response.writeHead(503).end('no'),
    {
      code: -32_000,
      message: 'the gateway answered with HTTP status 503',
      data: { code: 'INTERNAL' },
    },
  ],
  [
    'an answer that breaks off',
    (_, __, response) =>
      void response.writeHead(200, { 'content-type': 'text/event-stream' }).end(': x\n\n'),
    {
      code: -32_000,
      message:
        'the connection broke before the answer was complete; whether the call took effect is unknown',
      data: { code: 'UPSTREAM_LOST', retryable: true, executed: 'unknown' },
    },
  ],
];

for (const [what, answer, error] of FAILURES)
  test(`every request gets an answer: ${what}`, TIME, async (t) => {
    const front = new Front(t, ['--url', await playGateway(t, answer)]);
    front.send(ask(7));
    assert.deepEqual(await front.lines(1), [{ jsonrpc: '2.0', id: 7, error }]);
  });

test('every request gets an answer: no gateway', TIME, async (t) => {
  const front = new Front(t, ['--url', 'http://127.0.0.1:1/mcp']);
  front.send(ask(7));
  const [answer] = await front.lines(1);
  assert.equal(Object(answer).id, 7);
  assert.equal(Object(answer).error.data.code, 'UPSTREAM_UNREACHABLE');
  assert.equal((await front.end()).code, 0);
});

test('what is no message is answered by the front itself', TIME, async (t) => {
  const front = new Front(t, ['--url', 'http://127.0.0.1:1/mcp']);
  front.send('{"jsonrpc": ', '[1]', '', '7');
  const codes = (await front.lines(3)).map((line) => Object(line).error.code);
  assert.deepEqual(codes, [-32_700, -32_600, -32_600]);
});

test(
  'a line that is not UTF-8 reaches no gateway as another message; one that is cut anywhere is whole',
  TIME,
  async (t) => {
    const url = await playGateway(t, ({ id }, _, response) =>
      answerJson(response, 200, { jsonrpc: '2.0', id, result: {} }),
    );
    const front = new Front(t, ['--url', url]);
    const { stdin } = front.child;
    stdin.write(Buffer.from('{"jsonrpc":"2.0","id":"ü\xff","method":"ping"}\n', 'latin1'));
    const good = Buffer.from(`${JSON.stringify(ask(1, 'pïng'))}\n`);
    const half = good.indexOf(0xc3) + 1;
    stdin.write(good.subarray(0, half));
    await sleep(50);
    stdin.write(good.subarray(half));
    const answers = (await front.lines(2)).map((line) => Object(line));
    assert.deepEqual([answers[0].id, answers[0].error.code], [null, -32_700]);
    assert.deepEqual([answers[1].id, answers[1].result], [1, {}]);
  },
);

test('when stdin closes, a request in flight is answered first', TIME, async (t) => {
  const url = await playGateway(t, ({ id }, _, response) => {
    setTimeout(() => answerJson(response, 200, { jsonrpc: '2.0', id, result: {} }), 300);
  });
  const front = new Front(t, ['--url', url]);
  front.send(ask(1));
  assert.equal((await front.end()).code, 0);
  assert.deepEqual(await front.lines(1), [{ jsonrpc: '2.0', id: 1, result: {} }]);
});

test('when stdin closes, an answer that does not come is waited for 5 s', TIME, async (t) => {
  const front = new Front(t, ['--url', await playGateway(t, () => {})]);
  front.send(ask(1));
  const { code, ms } = await front.end();
  assert.equal(code, 0);
  assert.ok(ms > 4_500, `ended after ${ms} ms`); // and does end, or the test's own time runs out
});

test('when stdin closes while a gateway does not answer initialize, it ends', TIME, async (t) => {
  const front = new Front(t, ['--url', await playGateway(t, () => {})]);
  front.send(ask(1, 'initialize'), ask(2));
  assert.equal((await front.end()).code, 0);
  assert.equal(front.stdout, '');
});

for (const signal of ['SIGTERM', 'SIGINT'] as const)
  test(`${signal} ends the session and leaves running requests no time`, TIME, async (t) => {
    const ended: unknown[] = [];
    const called = new EventEmitter();
    const call = once(called, 'call');
    const url = await playGateway(t, ({ id, method }, request, response) => {
      if (method === 'initialize')
        answerJson(response, 200, { jsonrpc: '2.0', id, result: {} }, { 'mcp-session-id': 's-1' });
      else if (method === 'tools/call') called.emit('call');
      else {
        if (request.method === 'DELETE') ended.push(request.headers['mcp-session-id']);
        response.writeHead(202).end();
      }
    });
    const front = new Front(t, ['--url', url]);
    front.send(ask(1, 'initialize'), ask(2, 'tools/call'));
    await call;
    front.child.kill(signal);
    const [code] = await once(front.child, 'close');
    assert.equal(code, 0);
    assert.deepEqual(ended, ['s-1']);
    assert.equal(front.stderr, '');
  });

test('SIGTERM ends it while a gateway does not answer initialize', TIME, async (t) => {
  const gateway = new EventEmitter();
  const begun = once(gateway, 'call');
  const url = await playGateway(t, () => void gateway.emit('call'));
  const front = new Front(t, ['--url', url]);
  front.send(ask(1, 'initialize'));
  await begun;
  front.child.kill('SIGTERM');
  assert.deepEqual(await once(front.child, 'close'), [0, null]);
});

test('a token file is read again: what it holds by then is sent', TIME, async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'outrider-token-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const file = join(root, 'token');
  writeFileSync(file, 'first\n', { mode: 0o600 });
  const sent: unknown[] = [];
  const url = await playGateway(t, ({ id }, { headers }, response) => {
    sent.push(headers.authorization);
    answerJson(response, 200, { jsonrpc: '2.0', id, result: {} });
  });
  const front = new Front(t, ['--url', url, '--token-file', file]);
  for (const [id, text] of ['first', 'second', ''].entries()) {
    writeFileSync(file, text);
    front.send(ask(id));
    await front.lines(id + 1);
  }
  assert.deepEqual(sent, ['Bearer first', 'Bearer second', 'Bearer second']);
});

test(
  'a token that no header can carry is refused at the start, and not repeated',
  TIME,
  async (t) => {
    const front = new Front(t, [], { OUTRIDER_TOKEN: 'first\nsecond' });
    assert.deepEqual(await once(front.child, 'close'), [1, null]);
    assert.match(front.stderr, /^outrider mcp: [^\n]+\n$/);
    assert.ok(!/first|second/.test(front.stderr));
  },
);

test('a line without end is not kept, and ends the session', TIME, async (t) => {
  const ended: unknown[] = [];
  const url = await playGateway(t, ({ id, method }, request, response) => {
    if (request.method === 'DELETE') ended.push(request.headers['mcp-session-id']);
    if (method !== 'initialize') response.writeHead(202).end();
    else answerJson(response, 200, { jsonrpc: '2.0', id, result: {} }, { 'mcp-session-id': 's-1' });
  });
  const front = new Front(t, ['--url', url]);
  front.child.stdin.on('error', () => {}); // it does not read to the end
  front.send(ask(1, 'initialize'));
  await front.lines(1);
  front.send('x'.repeat(17 * 2 ** 20));
  assert.deepEqual(await once(front.child, 'close'), [1, null]);
  assert.deepEqual(ended, ['s-1']);
  assert.match(front.stderr, /^outrider mcp: [^\n]+\n$/);
});

test(
  'a gateway at a unix socket is no host called unix: its token goes nowhere',
  TIME,
  async (t) => {
    const listen = (address: string) =>
      new Front(t, [], { OUTRIDER_GATEWAY_LISTEN: address, OUTRIDER_TOKEN: 'secret' });
    const front = listen('unix:/run/outrider/gateway.sock');
    assert.deepEqual(await once(front.child, 'close'), [1, null]);
    assert.match(front.stderr, /^outrider mcp: OUTRIDER_GATEWAY_LISTEN is a unix socket.*--url\n$/);
    const url = new URL(
      await playGateway(t, ({ id }, { headers }, response) =>
        answerJson(response, 200, { jsonrpc: '2.0', id, result: { sent: headers.authorization } }),
      ),
    );
    const control = listen(url.host);
    control.send(ask(1));
    assert.deepEqual(Object((await control.lines(1))[0]).result, { sent: 'Bearer secret' });
  },
);

for (const options of [
  ['--url', 'ftp://x'],
  ['--url', 'http://user:secret@x'],
  ['--ulr', 'x'],
  ['--token-file', '/does/not/exist'],
])
  test(`${options.join(' ')} is one line on stderr and exit code 1`, TIME, async (t) => {
    const front = new Front(t, options);
    const [code] = await once(front.child, 'close');
    assert.equal(code, 1);
    assert.match(front.stderr, /^outrider mcp: [^\n]+\n$/);
    assert.equal(front.stdout, '');
    assert.ok(!front.stderr.includes('secret'));
  });
