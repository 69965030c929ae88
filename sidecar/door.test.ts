import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import {
  answerLate,
  get,
  policyOf,
  RULES,
  reasonOf,
  rig,
  send,
  statusOf,
  TOKEN,
  until,
  valuesOf,
} from './test-rig.ts';

const OK = get('http://api.allowed.test/v1/ok', 'api.allowed.test');

test('a door is shut before bind, open after it, and shut after unbind', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  assert.equal(await send(runner.door, OK), '', 'closed without a word');
  assert.equal(proxy.connections, 0);

  await runner.bind();
  assert.equal(statusOf(await send(runner.door, OK)), 200);
  assert.equal(proxy.requests.length, 1);

  await runner.unbind();
  assert.equal(await send(runner.door, OK), '');
  assert.equal(proxy.requests.length, 1);

  await runner.bind({ execId: 'exec-2' });
  assert.equal(statusOf(await send(runner.door, OK)), 200, 'a second exec may be bound');
});

/** A connection to a door that says nothing yet. */
async function idle(door: string): Promise<{ socket: Socket; closed: Promise<string> }> {
  const socket = connect({ path: door });
  let received = '';
  socket
    .on('data', (chunk: Buffer) => (received += chunk.toString('latin1')))
    .on('error', () => {});
  const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(received)));
  await new Promise((resolve) => socket.once('connect', resolve));
  return { socket, closed };
}

test('a connection from before a bind, or left from another exec, is never served under the exec that is bound next', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  const early = await idle(runner.door);
  await runner.bind();
  early.socket.write(OK);
  assert.equal(await early.closed, '');

  const left = await idle(runner.door);
  await runner.unbind();
  const between = await idle(runner.door);
  await runner.bind({ execId: 'exec-2' });
  for (const { socket, closed } of [left, between]) {
    socket.write(OK);
    assert.equal(await closed, '');
  }
  assert.equal(proxy.requests.length, 0);

  const own = await idle(runner.door);
  own.socket.write(OK);
  assert.equal(statusOf(await own.closed), 200);
});

test('a client of S3 is refused in the form of S3; whoever speaks otherwise, in JSON', async (t) => {
  const { attach } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const asked = (more: string) =>
    send(runner.door, get('http://bucket.s3.test/key', 'bucket.s3.test', more));
  const told = await asked('x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n');
  assert.equal(reasonOf(told), 'host_not_allowed');
  const [head = '', body = ''] = told.split('\r\n\r\n');
  assert.match(head, /^HTTP\/1\.1 403 .*\r\ncontent-type: application\/xml\r\n/);
  assert.match(head, new RegExp(`content-length: ${body.length}\\b`));
  assert.match(
    body,
    /<Error><Code>AccessDenied<\/Code><Message>http:\/\/bucket\.s3\.test\/key: [^<]+ \(Outrider: host_not_allowed\)<\/Message>/,
  );
  assert.match(await asked(''), /content-type: application\/json[^]*\r\n\r\n\{"error"/);
});

const REFUSED = [
  ['a host that no rule names', get('http://other.test/', 'other.test'), 403, 'host_not_allowed'],
  ['a denied host', get('http://evil.test/', 'evil.test'), 403, 'host_denied'],
  [
    'a denied host behind an allowed Host header',
    get('http://evil.test/', 'api.allowed.test'),
    403,
    'host_denied',
  ],
  [
    'an allowed host with another Host header',
    get('http://api.allowed.test/v1/ok', 'evil.test'),
    421,
    'host_mismatch',
  ],
  [
    'another path',
    get('http://api.allowed.test/admin', 'api.allowed.test'),
    403,
    'path_not_allowed',
  ],
  [
    'another port',
    get('http://api.allowed.test:81/v1/ok', 'api.allowed.test:81'),
    403,
    'port_not_allowed',
  ],
  [
    'another method',
    'DELETE http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n',
    405,
    'method_not_allowed',
  ],
  [
    'TRACE',
    'TRACE http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n',
    405,
    'method_not_allowed',
  ],
  [
    'https as plain bytes',
    get('https://seen.allowed.test/v1/ok', 'seen.allowed.test'),
    400,
    'scheme_not_allowed',
  ],
  [
    'the metadata address',
    get('http://169.254.169.254/', '169.254.169.254'),
    403,
    'ip_forbidden_class',
  ],
  ['loopback', get('http://127.0.0.1:9090/', '127.0.0.1:9090'), 403, 'ip_forbidden_class'],
  ['a decimal address', get('http://2130706433/', '2130706433'), 403, 'ip_not_allowed'],
  [
    'dot segments',
    get('http://api.allowed.test/v1/../admin', 'api.allowed.test'),
    400,
    'path_malformed',
  ],
  [
    'user information',
    get('http://a@api.allowed.test/v1/ok', 'api.allowed.test'),
    400,
    'userinfo_forbidden',
  ],
  ['the own address without a datasource', get('/', '127.0.0.1:3128'), 400, 'datasource_missing'],
  ['a datasource that is not granted', get('/loki/main/x', '127.0.0.1:3128'), 404, 'alias_unknown'],
  [
    'a fragment behind an alias',
    get('/prometheus/main/x#y', '127.0.0.1:3128'),
    400,
    'path_malformed',
  ],
  ['origin form for another host', get('/v1/ok', 'api.allowed.test'), 400, 'host_mismatch'],
  ['a port that there is not', get('/prometheus/main/x', '127.0.0.1:65536'), 400, 'host_mismatch'],
  ['the port 0', get('/prometheus/main/x', 'localhost:0'), 400, 'host_mismatch'],
  [
    'an upgrade',
    get(
      'http://api.allowed.test/v1/ws',
      'api.allowed.test',
      'Connection: Upgrade\r\nUpgrade: websocket\r\n',
    ),
    400,
    'upgrade_not_allowed',
  ],
  [
    'a loop',
    get('http://api.allowed.test/v1/ok', 'api.allowed.test', 'Via: 1.1 outrider\r\n'),
    508,
    'loop_detected',
  ],
  [
    'a loop in a second line',
    get(
      'http://api.allowed.test/v1/ok',
      'api.allowed.test',
      'Via: 1.0 fred\r\nVia: 1.1 outrider:3128\r\n',
    ),
    508,
    'loop_detected',
  ],
  [
    'a proxy to ask next',
    get(
      'http://api.allowed.test/v1/ok',
      'api.allowed.test',
      'X-Upstream-Https-Proxy: http://evil.test:3128\r\n',
    ),
    403,
    'upstream_proxy_forbidden',
  ],
  [
    'a method of RTSP',
    'ANNOUNCE /prometheus/main/x HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n',
    405,
    'method_not_allowed',
  ],
] as const;

test('what is refused is answered with its reason, recorded once, and the proxy is never called', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  for (const [what, bytes, status, reason] of REFUSED) {
    const before = runner.events.length;
    const answer = await send(runner.door, bytes, 60);
    assert.deepEqual([statusOf(answer), reasonOf(answer)], [status, reason], what);
    const body = JSON.parse(answer.split('\r\n\r\n')[1] ?? '') as { error: Record<string, string> };
    assert.equal(body.error['reason'], reason, what);
    assert.doesNotMatch(answer, /proxy\.sock|eyJ/, what);
    await until(() => runner.events.length > before);
    assert.equal(runner.events.length, before + 1, `${what}: told to the runner once`);
  }
  assert.equal(proxy.requests.length, 0);
  const { denied, allowed } = await runner.unbind();
  assert.deepEqual([denied, allowed], [BigInt(REFUSED.length), 0n]);
});

const ALLOWED = [
  ['upper case', get('http://API.Allowed.TEST/v1/ok', 'API.Allowed.TEST')],
  ['a trailing dot', get('http://api.allowed.test./v1/ok', 'api.allowed.test.')],
  ['the default port', get('http://api.allowed.test:80/v1/ok', 'api.allowed.test')],
  ['a Host in another spelling', get('http://api.allowed.test/v1/ok', 'Api.Allowed.Test:80')],
] as const;

test('the spellings of one target are one target on the wire', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  for (const [what, bytes] of ALLOWED) {
    assert.equal(statusOf(await send(runner.door, bytes, 60)), 200, what);
    const { url, headers } = proxy.requests.at(-1) ?? { url: '', headers: [] };
    assert.equal(url, 'http://api.allowed.test/v1/ok', what);
    assert.deepEqual(valuesOf(headers, 'host'), ['api.allowed.test'], what);
  }
});

test('the token stands once on the hop to the proxy, and nowhere towards the program', async (t) => {
  const { attach, proxy } = await rig(t);
  proxy.answer = (request, response) =>
    void response
      .writeHead(200, { 'proxy-authenticate': 'x', 'content-type': 'text/plain' })
      .end(String(request.rawHeaders.length));
  const runner = await attach();
  await runner.bind();
  const answer = await send(
    runner.door,
    get(
      'http://api.allowed.test/v1/ok',
      'api.allowed.test',
      'Proxy-Authorization: Basic eDp5\r\nConnection: close, X-Named\r\nX-Named: 1\r\nX-Request-Id: mine\r\n' +
        'X-Outrider-Role: admin\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=1\r\nX-HTTP-Method-Override: DELETE\r\nX_Original_URL: /other\r\nX_Request_Id: mine\r\nProxy: evil.test\r\nX.Forwarded.For: 127.0.0.1\r\nTransfer_Encoding: chunked\r\nContent_Length: 9\r\nX-Kept: a\r\nX-Kept: b\r\n',
    ),
  );
  assert.equal(statusOf(answer), 200);
  assert.ok(!answer.includes(TOKEN) && !/proxy-authenticate/i.test(answer));
  const headers = proxy.requests[0]?.headers ?? [];
  assert.deepEqual(valuesOf(headers, 'proxy-authorization'), [`Bearer ${TOKEN}`]);
  assert.deepEqual(valuesOf(headers, 'x-kept'), ['a', 'b']);
  assert.match(valuesOf(headers, 'x-request-id').join(), /^req-[a-z2-7]{26}$/);
  for (const gone of [
    'x-named',
    'x-outrider-role',
    'x-forwarded-for',
    'forwarded',
    'x-http-method-override',
    'x_original_url',
    'x_request_id',
    'x.forwarded.for',
    'transfer_encoding',
    'content_length',
    'proxy',
  ])
    assert.deepEqual(valuesOf(headers, gone), [], gone);
});

const IDENTITY =
  'Authorization: Bearer mine\r\nauthorization: Basic eDp5\r\nCookie: a=b\r\nX-User-ID: root\r\nX-Kept: 1\r\n';

test("identity is the proxy's to give where a credential is injected, and the program's own elsewhere", async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const cases = [
    [get('http://cred.allowed.test/x', 'cred.allowed.test', IDENTITY), 0],
    [get('/prometheus/main/api/v1/query', '127.0.0.1:3128', IDENTITY), 0],
    [get('http://api.allowed.test/v1/ok', 'api.allowed.test', IDENTITY), 2],
  ] as const;
  for (const [bytes, count] of cases) {
    assert.equal(statusOf(await send(runner.door, bytes, 60)), 200);
    const headers = proxy.requests.at(-1)?.headers ?? [];
    assert.equal(valuesOf(headers, 'authorization').length, count);
    assert.equal(valuesOf(headers, 'cookie').length, count / 2);
    assert.equal(valuesOf(headers, 'x-user-id').length, count / 2);
    assert.deepEqual(valuesOf(headers, 'x-kept'), ['1']);
  }
});

test('the three spellings of a datasource are one target', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const spellings = [
    get(
      'http://prometheus-main.outrider.internal/api/v1/query?q=up',
      'prometheus-main.outrider.internal',
    ),
    get('/prometheus/main/api/v1/query?q=up', '127.0.0.1:3128'),
    get('/prometheus/api/v1/query?q=up', 'localhost:3128', 'X-Datasource: main\r\n'),
  ];
  for (const bytes of spellings) assert.equal(statusOf(await send(runner.door, bytes, 60)), 200);
  const seen = proxy.requests.map(({ method, url, headers }) =>
    [method, url, valuesOf(headers, 'host').join(), valuesOf(headers, 'x-datasource').join()].join(
      ' ',
    ),
  );
  assert.equal(seen.length, 3);
  assert.deepEqual(
    new Set(seen),
    new Set([
      'GET http://prometheus-main.outrider.internal/api/v1/query?q=up prometheus-main.outrider.internal ',
    ]),
  );
  await runner.unbind();
  const targets = proxy.auditLines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ event }) => event === 'request')
    .map(({ target }) => target);
  assert.deepEqual(new Set(targets), new Set(['prometheus/main/api/v1/query']));
});

test('two names for one datasource are refused; the same name twice is one', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const asked = (name: string) =>
    get(
      'http://prometheus-main.outrider.internal/api/v1/query?q=up',
      'prometheus-main.outrider.internal',
      `X-Datasource: ${name}\r\n`,
    );
  const refused = await send(runner.door, asked('other'), 60);
  assert.equal(statusOf(refused), 403);
  assert.match(refused, /header_forbidden/);
  assert.equal(proxy.requests.length, 0);
  assert.equal(statusOf(await send(runner.door, asked('main'), 60)), 200);
});

test('bodies go both ways whole: with a length, in chunks, and after Expect', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const head = 'POST http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\n';
  const cases = [
    [`${head}Content-Length: 5\r\n\r\nhello`, 'content-length', '5'],
    [
      `${head}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n`,
      'transfer-encoding',
      'chunked',
    ],
    [`${head}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello`, 'content-length', '5'],
  ] as const;
  for (const [bytes, header, value] of cases) {
    const answer = await send(runner.door, bytes, 60);
    assert.match(answer, /200 OK[\s\S]*hello/);
    assert.equal(answer.startsWith('HTTP/1.1 100'), bytes.includes('Expect'));
    const request = proxy.requests.at(-1);
    await until(() => request?.complete === true);
    assert.equal(request?.body, 'hello');
    assert.deepEqual(valuesOf(request?.headers ?? [], header), [value]);
    assert.deepEqual(valuesOf(request?.headers ?? [], 'expect'), []);
  }
});

test('Expect is answered after the decision: a refused body is never asked for', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const answer = await send(
    runner.door,
    'POST http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n',
  );
  assert.equal(statusOf(answer), 403);
  assert.match(answer, /\r\nconnection: close/i);
  assert.equal(proxy.requests.length, 0);
});

test('a refused request with a body leaves the connection usable, and a later one is decided for itself', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const post =
    'POST http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 5\r\n\r\nhello';
  const answer = await send(
    runner.door,
    post + OK.replace(/Connection.*\r\n/, '') + get('http://evil.test/', 'evil.test'),
  );
  assert.deepEqual(
    [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => match[1]),
    ['403', '200', '403'],
  );
  assert.equal(proxy.requests.length, 1);
});

test('a program that goes away in the middle of a body never makes a whole request of it', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const socket = connect({ path: runner.door });
  socket.write(
    'POST http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\nContent-Length: 50\r\n\r\nhello',
  );
  proxy.answer = () => {};
  await until(() => proxy.requests[0]?.body === 'hello');
  socket.destroy();
  await until(() => proxy.ended === 1);
  assert.equal(proxy.requests[0]?.complete, false);
  assert.equal((await runner.unbind()).failed, 1n);
});

test('the proxy is away: 503, the reason, and no word of where it is', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  await proxy.close();
  const answer = await send(runner.door, OK);
  assert.deepEqual([statusOf(answer), reasonOf(answer)], [503, 'upstream_unreachable']);
  assert.match(answer, /\r\nretry-after: 1\r\n/i);
  assert.doesNotMatch(answer, /sock|ENOENT|ECONN/);
  await proxy.listen();
  assert.equal(
    statusOf(await send(runner.door, OK)),
    200,
    'and when it is back, so is the way out',
  );
});

test('an answer that breaks off is broken off towards the program too', async (t) => {
  const { attach, proxy } = await rig(t);
  proxy.answer = (_, response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('half');
    setTimeout(() => response.destroy(), 20);
  };
  const runner = await attach();
  await runner.bind();
  assert.match(await send(runner.door, OK), /content-length: 100[\s\S]*\r\n\r\nhalf$/i);
  const { failed } = await runner.unbind();
  assert.equal(failed, 1n);
});

test("what the proxy refuses reaches the program with the proxy's reason", async (t) => {
  const { attach, proxy } = await rig(t);
  proxy.answer = (_, response) =>
    void response
      .writeHead(403, {
        'x-outrider-error': 'EGRESS_DENIED',
        'x-outrider-reason': 'resolved_ip_forbidden',
      })
      .end('{}');
  const runner = await attach();
  await runner.bind();
  const answer = await send(runner.door, OK);
  assert.deepEqual([statusOf(answer), reasonOf(answer)], [403, 'resolved_ip_forbidden']);
  assert.equal((await runner.unbind()).denied, 1n);
  const event = runner.events.find(({ $case }) => $case === 'denied');
  assert.equal(event?.$case === 'denied' && event.value.reason, 'resolved_ip_forbidden');
});

test('an expired token lets nothing out until it is renewed', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind({ expiresAt: new Date(Date.now() - 60_000) });
  assert.equal(reasonOf(await send(runner.door, OK)), 'jwt_exp');
  assert.equal(proxy.requests.length, 0);
  const token = { jwt: TOKEN, expiresAt: new Date(Date.now() + 60_000) };
  await runner.ask({ $case: 'renew', value: { execId: 'exec-1', token } });
  assert.equal(statusOf(await send(runner.door, OK)), 200);
});

test("a rule's limits hold: rate with Retry-After, size of request and answer", async (t) => {
  const { attach, proxy } = await rig(t);
  const [api] = RULES;
  assert.ok(api);
  const limits = { rate: '2/h', burst: 2, requestBytes: 4, responseBytes: 4 };
  const runner = await attach();
  await runner.bind({ policy: policyOf([{ ...api, limits }]) });
  const post = (body: string) =>
    `POST http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const tooLong = await send(runner.door, post('12345'), 60);
  assert.deepEqual(statusOf(tooLong), 413);
  assert.match(
    tooLong,
    /\r\nx-outrider-rule: api\r\n[^]*"rule":"api"/,
    'it says whose limit that is',
  );
  assert.equal(proxy.requests.length, 0);
  proxy.answer = (_, response) =>
    void response.writeHead(200, { 'content-length': 5 }).end('hello');
  const tooMuch = await send(runner.door, post('1234'), 60);
  assert.equal(reasonOf(tooMuch), 'body_too_large');
  assert.match(tooMuch, /"rule":"api"/);
  proxy.answer = (_, response) => void response.writeHead(200).end('hello');
  assert.doesNotMatch(
    await send(runner.door, post('1234'), 60),
    /hello/,
    'cut where it gets too long',
  );
  assert.equal(proxy.requests.length, 2);
  const limited = await send(runner.door, post('1234'), 60);
  assert.deepEqual([statusOf(limited), reasonOf(limited)], [429, 'rate_limited']);
  assert.match(limited, /\r\nretry-after: 1[78]\d\d\r\n/i);
  assert.equal(proxy.requests.length, 2);
});

test('an answer says what the rate of its rule leaves, in place of what the other side says of its own', async (t) => {
  const { attach, proxy } = await rig(t);
  const [api] = RULES;
  assert.ok(api);
  const runner = await attach();
  proxy.answer = (_, response) =>
    void response.writeHead(200, { RateLimit: '"theirs";r=9', 'X-RateLimit-Used': '1' }).end('hi');
  const told = async (): Promise<string[]> =>
    (await send(runner.door, OK, 60)).split('\r\n').filter((line) => /ratelimit/i.test(line));
  await runner.bind({ policy: policyOf([{ ...api, limits: { rate: '2/h', burst: 2 } }]) });
  const policy = 'ratelimit-policy: "api";q=2;w=3600';
  const used = 'X-RateLimit-Used: 1';
  assert.deepEqual(await told(), [used, policy, 'ratelimit: "api";r=1;t=3600']);
  assert.deepEqual((await told()).slice(0, 2), [used, policy]);
  const [limited, left = ''] = await told();
  assert.equal(limited, policy);
  assert.match(left, /^ratelimit: "api";r=0;t=1[78]\d\d$/);
  await runner.unbind();
  await runner.bind();
  assert.deepEqual(await told(), ['RateLimit: "theirs";r=9', used], 'the rule has no rate');
});

test('a denial says what is allowed near it, and no other answer does', async (t) => {
  const { attach } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const told = async (request: string): Promise<unknown> => {
    const { error } = JSON.parse((await send(runner.door, request, 60)).split('\r\n\r\n')[1] ?? '');
    return error.allowed;
  };
  const api = RULES.filter(({ id }) => id === 'api').map(({ id: rule, ...rest }) => ({
    rule,
    ...rest,
    ports: [80],
  }));
  const path = get('http://api.allowed.test/v2/secret', 'api.allowed.test');
  assert.deepEqual(await told(path), { rules: api });
  assert.deepEqual(await told(get('http://api.allowed.example/', 'api.allowed.example')), {
    hosts: ['cred', 'api', 'seen', 'tls'].map((name) => `${name}.allowed.test`),
  });
  assert.equal(await told(get('http://api.allowed.test/v1/ok', 'other.test')), undefined);
});

test('of HEAD the length of what there would be is no size of an answer', async (t) => {
  const { attach, proxy } = await rig(t);
  const [api] = RULES;
  assert.ok(api);
  const runner = await attach();
  await runner.bind({ policy: policyOf([{ ...api, limits: { responseBytes: 4 } }]) });
  proxy.answer = (_, response) => void response.writeHead(200, { 'content-length': 5 }).end();
  const ask = (method: string) =>
    send(runner.door, OK.replace('GET', method), 60).then((answer) => statusOf(answer));
  assert.equal(await ask('HEAD'), 200);
  assert.equal(await ask('GET'), 502);
});

/** The text of an answer as it comes, piece by piece as they were read. */
function listen(door: string, asked: string): { readonly pieces: string[] } {
  const socket = connect({ path: door });
  const pieces: string[] = [];
  socket.on('error', () => {}).on('data', (piece) => void pieces.push(piece.toString('latin1')));
  socket.write(asked);
  return { pieces };
}

test('the head of an answer does not wait for its body, and a body that is there goes in one piece with it', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  const tell = answerLate(proxy);
  const { pieces } = listen(runner.door, OK);
  await until(() => pieces.join('').endsWith('\r\n\r\n'));
  assert.equal(statusOf(pieces.join('')), 200, 'nothing has been said behind the head yet');
  tell();
  await until(() => pieces.join('').includes('data: 1'));

  proxy.answer = (_, response) =>
    void response.writeHead(200, { 'content-length': 5 }).end('hello');
  const whole = listen(runner.door, OK);
  await until(() => whole.pieces.join('').endsWith('hello'));
  assert.equal(whole.pieces.length, 1);
});

test('answers that go on for long keep no other request waiting: there are as many connections to the proxy as to the door', async (t) => {
  const { attach, proxy } = await rig(t);
  const runner = await attach();
  await runner.bind();
  proxy.answer = (_, response) => void response.writeHead(200).write('data: 1\n\n');
  const streams = Array.from({ length: 100 }, () => listen(runner.door, OK));
  await until(() => streams.every(({ pieces }) => pieces.join('').includes('data: 1')));
});

test('a duration beyond what a timer takes cuts nothing, and one that is over does', async (t) => {
  const { attach, proxy } = await rig(t);
  const [api] = RULES;
  assert.ok(api);
  proxy.answer = (_, response) => void setTimeout(() => response.end('hello'), 100);
  for (const [duration, status] of [
    ['1000h', 200],
    ['20ms', 504],
  ] as const) {
    const runner = await attach(`for-${duration}`);
    await runner.bind({ policy: policyOf([{ ...api, limits: { duration } }]) });
    assert.equal(statusOf(await send(runner.door, OK, 300)), status, duration);
  }
});

test('tightening makes each limit the stricter of the two for the exec that runs', async (t) => {
  const { attach } = await rig(t);
  const [api] = RULES;
  assert.ok(api);
  const under = (limits: NonNullable<typeof api.limits>) => policyOf([{ ...api, limits }]);
  const runner = await attach();
  await runner.bind({ policy: under({ requestBytes: 8, responseBytes: 100 }) });
  const post = async (body: string) =>
    statusOf(
      await send(
        runner.door,
        `POST http://api.allowed.test/v1/ok HTTP/1.1\r\nHost: api.allowed.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        60,
      ),
    );
  assert.equal(await post('12345678'), 200);
  await runner.tighten(under({ requestBytes: 4, responseBytes: 1_000 }), 'e'.repeat(64));
  assert.equal(await post('12345'), 413);
  assert.equal(await post('1234'), 200);
  await runner.tighten(under({ requestBytes: 1_000, rate: '1/h' }), 'f'.repeat(64));
  assert.deepEqual([await post('12345'), await post('1234'), await post('1234')], [413, 200, 429]);
});
