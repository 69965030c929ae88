import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, request } from 'node:http';
import { connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { type Address, socketOptions } from './address.ts';
import { OutriderError } from './errors.ts';
import {
  adminRoutes,
  answerError,
  closeServer,
  createAdminServer,
  listen,
  type ReadyCheck,
} from './http.ts';
import { Metrics } from './metrics.ts';
import { ensureRuntimeDir } from './runtime-dir.ts';
import { temporaryDirectory } from './testing/directory.ts';

const ANY: Address = { kind: 'tcp', host: '127.0.0.1', port: 0 };

function socketPath(t: TestContext): string {
  const root = temporaryDirectory(t);
  return join(root, 'a.sock');
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: string;
}

function ask(
  at: Address,
  path: string,
  method = 'GET',
  headers: Record<string, string> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request({ ...optionsOf(at), path, method, headers, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    })
      .on('error', reject)
      .end();
  });
}

function optionsOf(at: Address) {
  return at.kind === 'unix' ? { socketPath: at.path } : socketOptions(at);
}

describe('the admin routes', () => {
  const broken: ReadyCheck = { name: 'policy', check: () => 'not loaded' };
  const fine: ReadyCheck = { name: 'proxy', check: async () => undefined };

  async function admin(t: TestContext, checks: readonly ReadyCheck[]): Promise<Address> {
    const routes = adminRoutes(checks, new Metrics('proxy'), () => ({ policyDigest: 'abc' }));
    const server = createAdminServer(routes);
    t.after(() => closeServer(server));
    return listen(server, ANY);
  }

  test('say live, ready and why not, in exactly these words', async (t) => {
    const [good, bad] = [await admin(t, [fine]), await admin(t, [fine, broken])];
    const cases: readonly (readonly [Address, string, number, object])[] = [
      [good, '/livez', 200, { status: 'live' }],
      [bad, '/livez', 200, { status: 'live' }],
      [good, '/readyz', 200, { status: 'ready', policyDigest: 'abc' }],
      [good, '/readyz?verbose', 200, { status: 'ready', policyDigest: 'abc' }],
      [good, '/health', 200, { status: 'ready', policyDigest: 'abc' }],
      [
        bad,
        '/readyz',
        503,
        { status: 'not ready', problems: { policy: 'not loaded' }, policyDigest: 'abc' },
      ],
      [good, '/', 404, { error: { code: 'NOT_FOUND', message: 'not found' } }],
      [good, '/readyz/', 404, { error: { code: 'NOT_FOUND', message: 'not found' } }],
    ];
    for (const [at, path, status, body] of cases) {
      const answer = await ask(at, path);
      assert.equal(answer.status, status, path);
      assert.deepEqual(JSON.parse(answer.body), body);
      assert.equal(answer.headers['content-type'], 'application/json');
      assert.equal(answer.headers['cache-control'], 'no-store');
    }
  });

  test('take GET and HEAD only', async (t) => {
    const at = await admin(t, [fine]);
    const refused = await ask(at, '/readyz', 'POST');
    assert.deepEqual([refused.status, refused.headers['allow']], [405, 'GET, HEAD']);
    const head = await ask(at, '/readyz', 'HEAD');
    assert.deepEqual([head.status, head.body], [200, '']);
  });

  test('give metrics with the name of the part', async (t) => {
    const { body, headers } = await ask(await admin(t, []), '/metrics');
    assert.match(body, /^process_cpu_seconds_total\{part="proxy"\} /m);
    assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/);
  });

  const PAGES = [
    [{ host: 'attacker.example:8788' }, 403, false, 'a rebound name'],
    [{ host: 'localhost.attacker.example' }, 403, false, 'a name that begins well'],
    [{ host: '127.0.0.1.attacker.example' }, 403, false, 'a name that looks like the address'],
    [{ host: 'prometheus' }, 403, false, 'a name without a dot'],
    [{ host: 'localhost:8788' }, 200, true, 'this machine'],
    [{ host: 'LOCALHOST' }, 200, true, 'case is no difference'],
    [{ host: '[::1]:8788' }, 200, true, 'this machine over IPv6'],
    [{ host: '10.0.0.1:8788' }, 200, true, 'an address is no page’s to give'],
    [{}, 200, true, 'a scraper'],
  ] as const;

  test('on loopback, a name that may be a page’s own gets no metrics, and of a probe the status alone', async (t) => {
    const at = await admin(t, [fine]);
    const bad = await admin(t, [broken]);
    for (const [headers, status, isTold, why] of PAGES) {
      const { status: given, body } = await ask(at, '/metrics', 'GET', headers);
      assert.equal(given, status, why);
      assert.equal(body.includes('process_cpu_seconds_total'), isTold, why);
      assert.equal((await ask(at, '/livez', 'GET', headers)).status, 200, why);
      const ready = await ask(at, '/readyz', 'GET', headers);
      assert.equal(ready.status, 200, why);
      assert.equal(ready.body.includes('policyDigest'), isTold, why);
      const unready = await ask(bad, '/readyz', 'GET', headers);
      assert.equal(unready.status, 503, why);
      assert.equal(unready.body.includes('not loaded'), isTold, why);
    }
  });

  test('on loopback, a page that says which it is gets nothing, whatever it calls', async (t) => {
    const at = await admin(t, [fine]);
    for (const path of ['/livez', '/readyz', '/health', '/metrics'])
      for (const origin of ['http://attacker.example', 'http://localhost:3000', 'null', '']) {
        const { status, body } = await ask(at, path, 'GET', { origin });
        assert.equal(status, 403, `${path} ${origin}`);
        assert.equal(JSON.parse(body).error.code, 'ORIGIN_NOT_ALLOWED');
      }
    for (const path of ['/livez', 'http://attacker.example/livez', 'http://localhost/metrics'])
      assert.equal((await ask(at, path)).status, 200, `control: ${path}`);
    assert.equal((await ask(at, 'http://attacker.example/metrics')).status, 403, 'in the target');
  });

  test('over a unix socket, which no page reaches, nobody is asked for a name', async (t) => {
    const server = createAdminServer(adminRoutes([], new Metrics('proxy')));
    t.after(() => closeServer(server));
    const at = await listen(server, { kind: 'unix', path: socketPath(t) });
    assert.equal((await ask(at, '/metrics', 'GET', { host: 'runner' })).status, 200);
  });

  test('a check that throws shows its public message, never its cause', async (t) => {
    const at = await admin(t, [
      {
        name: 'a',
        check: () => Promise.reject(new OutriderError('NOT_FOUND', 'gone', { cause: 'secret' })),
      },
      { name: 'b', check: () => Promise.reject(new Error('secret of 10.0.0.1')) },
    ]);
    const { status, body } = await ask(at, '/readyz');
    assert.equal(status, 503);
    const expected = { a: 'gone', b: 'internal error' };
    assert.deepEqual(JSON.parse(body).problems, expected);
  });

  test('a check that does not answer is late after two seconds, and the others are still asked', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let asked = (): void => {};
    const both = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const at = await admin(t, [
      { name: 'slow', check: () => new Promise(() => {}) },
      { name: 'policy', check: () => (asked(), 'not loaded') },
    ]);
    const answer = ask(at, '/readyz');
    await both;
    t.mock.timers.tick(2_000);
    assert.deepEqual(JSON.parse((await answer).body).problems, {
      slow: 'no answer in time',
      policy: 'not loaded',
    });
    t.mock.timers.reset();
  });
});

describe('listening', () => {
  test('port 0 becomes the real one, on loopback v4 and v6', async (t) => {
    for (const host of ['127.0.0.1', 'localhost']) {
      const server = createServer();
      t.after(() => server.close());
      const at = await listen(server, { kind: 'tcp', host, port: 0 });
      assert.ok(at.kind === 'tcp' && at.port > 0 && at.host === host);
    }
  });

  test('a port in use, and one that may not be had, say so', async (t) => {
    const first = createServer();
    t.after(() => first.close());
    const at = await listen(first, ANY);
    await assert.rejects(listen(createServer(), at), { code: 'ADDRESS_IN_USE' });
    await assert.rejects(listen(createServer(), { ...ANY, host: '192.0.2.1' }), {
      code: 'CONFIG_INVALID',
      message: 'this machine has no address 192.0.2.1:0',
    });
  });

  test("a unix socket is its owner's only, unless told", async (t) => {
    const path = socketPath(t);
    for (const [mode, expected] of [
      [undefined, 0o600],
      [0o666, 0o666],
    ] as const) {
      const server = createServer();
      await listen(server, { kind: 'unix', path }, mode);
      assert.equal(lstatSync(path).mode & 0o777, expected);
      await new Promise((resolve) => server.close(resolve));
    }
  });

  test('where root and the mesh’s user meet, a unix socket is for both, unless told', {
    skip: process.getuid?.() !== 0,
  }, async (t) => {
    const path = socketPath(t);
    ensureRuntimeDir(dirname(path), 4_711);
    for (const [asked, mode] of [
      [undefined, 0o660],
      [0o600, 0o600],
    ] as const) {
      const server = createServer();
      await listen(server, { kind: 'unix', path }, asked);
      const { uid, gid, mode: found } = lstatSync(path);
      assert.deepEqual([uid, gid, found & 0o777], [0, 4_711, mode]);
      server.close();
    }
  });

  test('a socket that a dead process left is replaced; one that answers is not', async (t) => {
    const path = socketPath(t);
    leaveSocket(path);
    assert.ok(existsSync(path));
    const server = createHttpServer();
    t.after(() => server.close());
    await listen(server, { kind: 'unix', path });
    await assert.rejects(listen(createServer(), { kind: 'unix', path }), {
      code: 'ADDRESS_IN_USE',
    });
    assert.ok(existsSync(path), 'the one in use is still there');
  });

  test('a file that is no socket is never removed', async (t) => {
    const path = socketPath(t);
    writeFileSync(path, 'precious');
    await assert.rejects(listen(createServer(), { kind: 'unix', path }), {
      code: 'CONFIG_INVALID',
    });
    assert.equal(readFileSync(path, 'utf8'), 'precious');
  });
});

test('an answer that has begun is cut rather than given a second head', async (t) => {
  const server = createHttpServer((_, response) => {
    response.writeHead(200).write('x');
    answerError(response, new Error('late'));
  });
  t.after(() => closeServer(server));
  await assert.rejects(ask(await listen(server, ANY), '/'), { code: 'ECONNRESET' });
});

test('an error of ours is its status, its public form and the time to wait in whole seconds', async (t) => {
  const server = createHttpServer((_, response) => {
    const error = new OutriderError('RATE_LIMITED', 'slow', {
      cause: 'secret',
      retryAfterMs: 1_200,
    });
    answerError(response, error, { 'x-outrider-error': 'RATE_LIMITED' });
  });
  t.after(() => closeServer(server));
  const { status, headers, body } = await ask(await listen(server, ANY), '/');
  assert.deepEqual(
    [status, headers['retry-after'], headers['x-outrider-error'], JSON.parse(body)],
    [
      429,
      '2',
      'RATE_LIMITED',
      { error: { code: 'RATE_LIMITED', message: 'slow', retryAfterMs: 1_200 } },
    ],
  );
});

test('closing lets a running request end for the grace, then cuts it', async () => {
  for (const [graceMs, takesMs, whole] of [
    [2_000, 20, true],
    [10, 2_000, false],
  ] as const) {
    let arrived = (): void => {};
    const running = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const timers: NodeJS.Timeout[] = [];
    const server = createHttpServer((_, response) => {
      timers.push(setTimeout(() => response.end('whole'), takesMs));
      arrived();
    });
    const at: Address = await listen(server, ANY);
    const answer: Promise<boolean> = ask(at, '/').then(
      ({ body }) => body === 'whole',
      () => false,
    );
    await running;
    await closeServer(server, graceMs);
    assert.equal(await answer, whole);
    for (const timer of timers) clearTimeout(timer);
  }
});

/** Leaves a socket file behind as a killed process does. */
function leaveSocket(path: string): void {
  spawnSync(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ]);
}

describe('a server that is closed while a client keeps an idle connection', () => {
  /** What a second request on that connection gets, sent when the server has begun to close. */
  async function secondAnswer(t: TestContext, idleMs: number): Promise<string> {
    const server = createHttpServer((_, response) => response.end('there'));
    const at = await listen(server, ANY);
    const socket = connect(socketOptions(at));
    t.after(() => socket.destroy());
    let said = '';
    socket.setEncoding('utf8').on('error', () => {});
    socket.on('data', (chunk: string) => {
      said += chunk;
    });
    const send = () => socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    send();
    while (!said.endsWith('there')) await once(socket, 'data');
    said = '';
    const closed = closeServer(server, 60_000, idleMs);
    if (idleMs > 0) send();
    await closed;
    if (!socket.closed) await once(socket, 'close');
    return said;
  }

  test('answers one more request on it, and says that it was the last', async (t) => {
    const said = await secondAnswer(t, 3_000);
    assert.match(said, /^HTTP\/1\.1 200 [\s\S]*connection: close[\s\S]*there$/i);
  });

  test('closes it at once where it need not wait', async (t) => {
    const from = performance.now();
    assert.equal(await secondAnswer(t, 0), '');
    assert.ok(performance.now() - from < 30_000);
  });
});
