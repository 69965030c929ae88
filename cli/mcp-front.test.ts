import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import { answerJson } from '#core/http';
import type { Message } from './json-rpc.ts';
import { McpEndpoint } from './mcp-endpoint.ts';
import { McpFront } from './mcp-front.ts';
import { type Asked, ask, playGateway } from './testing.ts';

const TIME = { timeout: 120_000 };
const VERSION = '2025-11-25';
const NEVER = new Promise<never>(() => {});
const INITIALIZED = { jsonrpc: '2.0', method: 'notifications/initialized' };
const LIST_CHANGED = { jsonrpc: '2.0', method: 'notifications/tools/list_changed' };

/** What the gateway was sent: the method of the message, else the verb. */
interface Seen {
  readonly what: string;
  readonly headers: IncomingHttpHeaders;
  readonly message: Asked;
}
type Script = (seen: Seen, response: ServerResponse) => void;

/** A front in this process, before a gateway that answers as told; what is not told is a session `s-1`, `s-2`, ... */
class Stage {
  readonly seen: Seen[] = [];
  readonly sent: Message[] = [];
  readonly reported: string[] = [];
  readonly #changed = new EventEmitter();
  readonly #url: Promise<string>;
  #front: McpFront | undefined;
  #sessions = 0;
  token = 'old';

  constructor(t: TestContext, script: Readonly<Record<string, Script>>) {
    this.#url = playGateway(t, (message, { method = '', headers }, response) => {
      const what = method === 'POST' ? (message.method ?? 'an answer') : method;
      const seen = { what, headers, message };
      this.seen.push(seen);
      (script[what] ?? this.#byDefault)(seen, response);
      this.#changed.emit('change');
    });
    t.after(() => this.close(Promise.resolve()));
  }

  readonly #byDefault: Script = ({ what, message: { id } }, response) => {
    if (what === 'GET') response.writeHead(405).end();
    else if (what === 'initialize') this.begin(id, response);
    else if (id === undefined) response.writeHead(202).end();
    else answerJson(response, 200, { jsonrpc: '2.0', id, result: { to: what } });
  };

  begin(id: number | undefined, response: ServerResponse, version = VERSION): void {
    const session = { 'mcp-session-id': `s-${++this.#sessions}` };
    const result = { protocolVersion: version, capabilities: {} };
    answerJson(response, 200, { jsonrpc: '2.0', id, result }, session);
  }

  async take(...messages: readonly object[]): Promise<void> {
    this.#front ??= new McpFront({
      endpoint: new McpEndpoint(new URL(await this.#url), () => this.token),
      send: async (text) => {
        this.sent.push(JSON.parse(text));
        this.#changed.emit('change');
      },
      report: (line) => void this.reported.push(line),
    });
    for (const message of messages) await this.#front.take(JSON.stringify(message));
  }

  async close(late: Promise<unknown> = NEVER): Promise<void> {
    await this.#front?.close(late);
    this.#front = undefined;
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await once(this.#changed, 'change');
  }

  /** The answer of the request. */
  async answered(id: number): Promise<Message> {
    const isIt = (message: Message) => message['id'] === id && message['method'] === undefined;
    await this.until(() => this.sent.some(isIt));
    return this.sent.find(isIt) ?? {};
  }

  /** How often it was sent what, and in which sessions. */
  sessionsOf(what: string): unknown[] {
    return this.seen
      .filter((seen) => seen.what === what)
      .map(({ headers }) => headers['mcp-session-id']);
  }
}

function events(response: ServerResponse, ...texts: readonly string[]): ServerResponse {
  response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
  for (const text of texts) response.write(text);
  return response;
}

const event = (message: object, id?: string) =>
  `${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(message)}\n\n`;

const gone: Script = (_, response) =>
  answerJson(response, 404, {
    jsonrpc: '2.0',
    id: null,
    error: { code: -32_001, message: 'Session not found' },
  });

test(
  "the session's own stream reaches the client, and is taken up behind its last event",
  TIME,
  async (t) => {
    const second = { ...LIST_CHANGED, params: { n: 2 } };
    const stage = new Stage(t, {
      GET: ({ headers }, response) => {
        if (headers['last-event-id'] === undefined)
          events(response, 'retry: 50\n\n', event(LIST_CHANGED, 'höhe')).end();
        else events(response, event(second));
      },
    });
    await stage.take(ask(1, 'initialize'), INITIALIZED);
    await stage.until(() => stage.sent.length === 3);
    assert.deepEqual(stage.sent.slice(1), [LIST_CHANGED, second]);
    const gets = stage.seen.filter(({ what }) => what === 'GET');
    assert.deepEqual(stage.sessionsOf('GET'), ['s-1', 's-1']);
    assert.deepEqual(
      gets.map(({ headers }) => headers['mcp-protocol-version']),
      [VERSION, VERSION],
    );
    const behind = String(gets[1]?.headers['last-event-id']);
    assert.equal(Buffer.from(behind, 'latin1').toString(), 'höhe');
  },
);

test(
  "the session's own stream is asked for again while the gateway cannot serve it, and anew where its place is forgotten",
  TIME,
  async (t) => {
    const answers: Script[] = [
      (_, response) => void events(response, 'id: 7\nretry: 50\n\n').end(),
      (_, response) => void response.writeHead(503).end(),
      (_, response) => void response.destroy(),
      (_, response) => void response.writeHead(400).end(),
      (_, response) => void events(response, event(LIST_CHANGED)),
    ];
    const stage = new Stage(t, { GET: (seen, response) => answers.shift()?.(seen, response) });
    await stage.take(ask(1, 'initialize'), INITIALIZED);
    await stage.until(() => stage.sent.includes(stage.sent[1] ?? {}));
    assert.deepEqual(stage.sent[1], LIST_CHANGED);
    assert.deepEqual(
      stage.seen.filter(({ what }) => what === 'GET').map((get) => get.headers['last-event-id']),
      [undefined, '7', '7', '7', undefined],
    );
  },
);

for (const [how, end] of [
  ['is ended', (response: ServerResponse) => response.end()],
  ['breaks', (response: ServerResponse) => response.destroy()],
] as const)
  test(`an answer whose stream ${how} behind an event is taken up there`, TIME, async (t) => {
    const progress = { jsonrpc: '2.0', method: 'notifications/progress' };
    const result = { jsonrpc: '2.0', id: 2, result: { come: 'late' } };
    const stage = new Stage(t, {
      'tools/call': (_, response) =>
        void events(response).write('id: 7\nretry: 50\n\n', () => end(response)),
      GET: ({ headers }, response) => {
        const behind = headers['last-event-id'];
        if (behind === undefined) response.writeHead(405).end();
        else if (behind === '7') events(response, event(progress, '8')).end();
        else if (behind === '8') events(response, event(result)).end();
      },
    });
    await stage.take(ask(1, 'initialize'), INITIALIZED, ask(2, 'tools/call'));
    assert.deepEqual(await stage.answered(2), result);
    assert.deepEqual(stage.sent.slice(1), [progress, result]);
    assert.equal(stage.sessionsOf('tools/call').length, 1, 'it is not called again');
  });

const LOST: readonly (readonly [string, Script])[] = [
  ['the session is over', gone],
  ['the event is forgotten', (_, response) => void response.writeHead(400).end()],
  ['the gateway is away', (_, response) => void response.destroy()],
];
for (const [why, answer] of LOST)
  test(`an answer that cannot be taken up is lost: ${why}`, TIME, async (t) => {
    const stage = new Stage(t, {
      'tools/call': (_, response) => void events(response, 'id: 7\nretry: 1\n\n').end(),
      GET: (seen, response) =>
        seen.headers['last-event-id'] === undefined
          ? response.writeHead(405).end()
          : answer(seen, response),
    });
    await stage.take(ask(1, 'initialize'), INITIALIZED, ask(2, 'tools/call'));
    assert.equal(Object(await stage.answered(2)).error.data.code, 'UPSTREAM_LOST');
    assert.equal(stage.sessionsOf('tools/call').length, 1, 'it is not called again');
  });

test('a stream of the stateless era is not taken up', TIME, async (t) => {
  const stage = new Stage(t, {
    'tools/call': (_, response) => void events(response, 'id: 7\nretry: 1\n\n').end(),
  });
  await stage.take(ask(2, 'tools/call', modern()));
  assert.equal(Object(await stage.answered(2)).error.data.code, 'UPSTREAM_LOST');
  assert.deepEqual(stage.sessionsOf('GET'), []);
});

test('a request has one answer, however its stream goes on', TIME, async (t) => {
  const first = { jsonrpc: '2.0', id: 2, result: { n: 1 } };
  const stage = new Stage(t, {
    'tools/call': (_, response) =>
      void events(response, event(first, '1'), event({ ...first, result: { n: 2 } })).write(
        event(LIST_CHANGED),
        () => response.destroy(),
      ),
  });
  await stage.take(ask(2, 'tools/call'));
  await stage.until(() => stage.sent.length === 2);
  await stage.take(ask(3));
  await stage.answered(3);
  assert.deepEqual(stage.sent.slice(0, 2), [first, LIST_CHANGED]);
  assert.equal(stage.sent.length, 3);
});

test(
  'a session that the server has forgotten is begun again, once, and the client does not notice',
  TIME,
  async (t) => {
    let forgotten = false;
    const unlessForgotten: Script = (seen, response) => {
      const { id } = seen.message;
      if (forgotten && seen.headers['mcp-session-id'] === 's-1') gone(seen, response);
      else answerJson(response, 200, { jsonrpc: '2.0', id, result: { to: seen.what } });
    };
    const stage = new Stage(t, { 'tools/call': unlessForgotten });
    const initialize = ask(1, 'initialize', {
      protocolVersion: VERSION,
      clientInfo: { name: 'c' },
    });
    const level = ask(2, 'logging/setLevel', { level: 'debug' });
    const subscribe = ask(3, 'resources/subscribe', { uri: 'a:1' });
    const other = ask(4, 'resources/subscribe', { uri: 'a:2' });
    const unsubscribe = ask(5, 'resources/unsubscribe', { uri: 'a:2' });
    await stage.take(initialize, INITIALIZED, level, subscribe, other);
    await Promise.all([2, 3, 4].map((id) => stage.answered(id)));
    await stage.take(unsubscribe);
    await stage.answered(5);
    forgotten = true;
    const before = stage.seen.length;
    await stage.take(ask(6, 'tools/call'), ask(7, 'tools/call'), ask(8, 'tools/call'));
    for (const id of [6, 7, 8])
      assert.deepEqual(Object(await stage.answered(id)).result, { to: 'tools/call' });
    assert.deepEqual(
      stage.sent.map(({ id }) => Number(id)).toSorted((a, b) => a - b),
      [1, 2, 3, 4, 5, 6, 7, 8],
      'one answer each, and nothing else',
    );
    const anew = stage.seen.slice(before).filter(({ what }) => !/^(tools|GET)/.test(what));
    assert.deepEqual(
      anew.map(({ message, headers }) => [message, headers['mcp-session-id']]),
      [
        [initialize, undefined],
        [INITIALIZED, 's-2'],
        [level, 's-2'],
        [subscribe, 's-2'],
      ],
    );
    assert.deepEqual(stage.sessionsOf('tools/call').map(String).toSorted(), [
      's-1',
      's-1',
      's-1',
      's-2',
      's-2',
      's-2',
    ]);
    await stage.close();
    assert.deepEqual(stage.sessionsOf('DELETE'), ['s-2']);
    assert.deepEqual(stage.reported, []);
  },
);

test(
  "a session that is forgotten while the client calls nothing is begun again at the end of the session's own stream",
  TIME,
  async (t) => {
    const stage = new Stage(t, {
      GET: (seen, response) => {
        const isFirst = stage.sessionsOf('GET').length === 1;
        if (isFirst) events(response, 'retry: 50\n\n').end();
        else if (seen.headers['mcp-session-id'] === 's-1') gone(seen, response);
        else events(response, event(LIST_CHANGED));
      },
    });
    await stage.take(ask(1, 'initialize'), INITIALIZED);
    await stage.until(() => stage.sent.length === 2);
    assert.deepEqual(stage.sent[1], LIST_CHANGED);
    assert.deepEqual(stage.sessionsOf('GET'), ['s-1', 's-1', 's-2']);
  },
);

test('a server whose 404 to a stream means that it has none keeps its session', TIME, async (t) => {
  const stage = new Stage(t, { GET: gone });
  await stage.take(ask(1, 'initialize'), INITIALIZED);
  await stage.until(() => stage.sessionsOf('GET').length === 1);
  await stage.take(ask(2));
  await stage.answered(2);
  await stage.close();
  assert.deepEqual(stage.sessionsOf('DELETE'), ['s-1']);
});

const REFUSALS: readonly (readonly [string, Script, readonly string[]])[] = [
  ['the server begins none', gone, []],
  [
    'the server begins one of another version',
    ({ message }, response) =>
      answerJson(
        response,
        200,
        { jsonrpc: '2.0', id: message.id, result: { protocolVersion: '2025-03-26' } },
        { 'mcp-session-id': 's-9' },
      ),
    ['s-9'],
  ],
];
for (const [why, refusal, ended] of REFUSALS)
  test(
    `a session that cannot be begun again fails the call that was not carried out: ${why}`,
    TIME,
    async (t) => {
      const stage: Stage = new Stage(t, {
        'tools/call': gone,
        initialize: (seen, response) =>
          seen === stage.seen[0] ? stage.begin(1, response) : refusal(seen, response),
      });
      await stage.take(ask(1, 'initialize'), INITIALIZED, ask(2, 'tools/call'));
      assert.equal(Object(await stage.answered(2)).error.data.code, 'SESSION_NOT_FOUND');
      await stage.until(() => stage.sessionsOf('DELETE').length === ended.length);
      assert.deepEqual(stage.sessionsOf('DELETE'), ended);
    },
  );

test('a server that forgets each session at once is not begun again for ever', TIME, async (t) => {
  const stage = new Stage(t, { 'tools/call': gone });
  await stage.take(ask(1, 'initialize'), INITIALIZED, ask(2, 'tools/call'));
  assert.equal(Object(await stage.answered(2)).error.data.code, 'SESSION_NOT_FOUND');
  assert.equal(stage.sessionsOf('initialize').length, 2);
});

test(
  "the server's requests reach the client by either stream, and its answers go back",
  TIME,
  async (t) => {
    const sampling = { jsonrpc: '2.0', id: 0, method: 'sampling/createMessage', params: {} };
    const roots = { jsonrpc: '2.0', id: 'r', method: 'roots/list' };
    const answers: Asked[] = [];
    const stage = new Stage(t, {
      GET: (_, response) => void events(response, event(roots)),
      'tools/call': ({ message }, response) => {
        events(response, event(sampling));
        const timer = setInterval(() => {
          if (answers.length < 2) return;
          clearInterval(timer);
          response.end(event({ jsonrpc: '2.0', id: message.id, result: {} }));
        }, 10);
        response.once('close', () => clearInterval(timer));
      },
      'an answer': ({ message }, response) => {
        answers.push(message);
        response.writeHead(202).end();
      },
    });
    await stage.take(ask(1, 'initialize'), INITIALIZED, ask(2, 'tools/call'));
    await stage.until(() => stage.sent.length === 3);
    assert.deepEqual(new Set(stage.sent.slice(1)), new Set([sampling, roots]));
    const replies = [
      { jsonrpc: '2.0', id: 0, result: { role: 'assistant' } },
      { jsonrpc: '2.0', id: 'r', error: { code: -32_601, message: 'no' } },
    ];
    await stage.take(...replies);
    await stage.answered(2);
    assert.deepEqual(new Set(answers), new Set(replies));
    assert.deepEqual(stage.sessionsOf('an answer'), ['s-1', 's-1']);
  },
);

test(
  'what a session has asked is withdrawn when it is over, and is not answered in the next',
  TIME,
  async (t) => {
    const roots = { jsonrpc: '2.0', id: 0, method: 'roots/list' };
    const stage = new Stage(t, {
      GET: ({ headers }, response) =>
        void events(response, headers['mcp-session-id'] === 's-1' ? event(roots) : ''),
      'an answer': gone,
    });
    await stage.take(ask(1, 'initialize'), INITIALIZED);
    await stage.until(() => stage.sent.length === 2);
    await stage.take({ jsonrpc: '2.0', id: 0, result: { roots: [] } });
    await stage.until(() => stage.sent.length === 3);
    assert.equal(stage.sent[2]?.['method'], 'notifications/cancelled');
    assert.equal(Object(stage.sent[2]?.['params']).requestId, 0);
    await stage.close();
    assert.deepEqual(stage.sessionsOf('an answer'), ['s-1']);
  },
);

test(
  'a token that was refused and has changed since is sent again, one that has not is not',
  TIME,
  async (t) => {
    const stage = new Stage(t, {
      ping: ({ message: { id }, headers }, response) => {
        stage.token = 'new';
        if (headers.authorization === 'Bearer new')
          answerJson(response, 200, { jsonrpc: '2.0', id, result: {} });
        else response.writeHead(401).end();
      },
      'tools/call': (_, response) => void response.writeHead(401).end(),
    });
    await stage.take(ask(1));
    assert.deepEqual(Object(await stage.answered(1)).result, {});
    assert.equal(stage.sessionsOf('ping').length, 2);
    await stage.take(ask(2, 'tools/call'));
    assert.equal(Object(await stage.answered(2)).error.data.code, 'UNAUTHENTICATED');
    assert.equal(stage.sessionsOf('tools/call').length, 1);
  },
);

test(
  'a subscription of the stateless era reaches the client, and the end does not wait for it',
  TIME,
  async (t) => {
    const stage = new Stage(t, {
      'subscriptions/listen': (_, response) => void events(response, event(LIST_CHANGED)),
    });
    await stage.take(ask(1, 'subscriptions/listen', modern()));
    await stage.until(() => stage.sent.length === 1);
    await stage.close(NEVER);
    assert.deepEqual(stage.sent, [LIST_CHANGED]);
  },
);

test('a client that begins again ends the session before', TIME, async (t) => {
  const stage = new Stage(t, {});
  await stage.take(ask(1, 'initialize'), INITIALIZED, ask(2, 'initialize'));
  assert.deepEqual(stage.sessionsOf('initialize'), [undefined, undefined]);
  assert.deepEqual(stage.sessionsOf('DELETE'), ['s-1']);
  await stage.close();
  assert.deepEqual(stage.sessionsOf('DELETE'), ['s-1', 's-2']);
});

test('what is reported is one line, whatever the client calls its method', TIME, async (t) => {
  const method = `a\n\u001b${'x'.repeat(1_000)}`;
  const stage = new Stage(t, { [method]: (_, response) => void response.writeHead(503).end() });
  await stage.take(ask(1, method));
  await stage.answered(1);
  assert.match(stage.reported.join('|'), /^a\?\?x{97}: [^\n|]+$/);
});

function modern(): object {
  return { _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' } };
}

/** What JavaScript would write in another way, all of it. */
const AS_WRITTEN =
  '{"ns":1795423083123456789, "big":1e400,"one":1.0,"\\u0061":-0,"10":[],"2":"\\/"}';

/** A front whose gateway answers with the text that `answer` makes of what it was sent; what both sides got. */
async function exchanged(
  t: TestContext,
  line: string,
  answer: (body: string) => readonly [type: string, text: string, status?: number],
): Promise<{ posted: readonly string[]; sent: readonly string[] }> {
  const posted: string[] = [];
  const sent: string[] = [];
  const url = await playGateway(t, (_message, _request, response, body) => {
    posted.push(body);
    const [type, text, status = 200] = answer(body);
    response.writeHead(status, { 'content-type': type }).end(text);
  });
  const front = new McpFront({
    endpoint: new McpEndpoint(new URL(url), () => undefined),
    send: async (text) => void sent.push(text),
    report: () => {},
  });
  await front.take(line);
  await front.close(NEVER);
  return { posted, sent };
}

const request = (id: string) =>
  `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":${AS_WRITTEN}}`;
const result = (id: string, end = '') =>
  `{"jsonrpc":"2.0",${end}"id":${id},${end}${end}"result":${AS_WRITTEN}}`;
const refused = (id: string) =>
  `{"jsonrpc":"2.0",${id}"error":{"code":-32000,"message":"no","data":${AS_WRITTEN}}}`;
const BIG = '9007199254740993';
const ROUNDED = '9007199254740992';
const JSON_TYPE = 'application/json';
/** As `AS_WRITTEN`, in a message of which something had to change: its numbers. */
const NUMBERS = ['"ns":1795423083123456789,', '"big":1e400,', '"one":1.0,', ':-0'];

const PASSES = [
  ['a number', '7', [JSON_TYPE, result('7')]],
  ['a number that JavaScript rounds', BIG, [JSON_TYPE, result(BIG)]],
  ['a number that JavaScript does not hold', '1e400', [JSON_TYPE, result('1e400')]],
  ['a fraction', '1.50', [JSON_TYPE, result('1.50')]],
  ['text that is a number', `"${BIG}"`, [JSON_TYPE, result(`"${BIG}"`)]],
  ['an event', BIG, ['text/event-stream', `data: ${result(BIG)}\n\n`]],
  ['several lines', BIG, [JSON_TYPE, result(BIG, '\r\n')]],
  ['an event in lines', BIG, ['text/event-stream', `data: ${result(BIG, '\ndata: ')}\n\n`]],
] as const;

for (const [what, id, answer] of PASSES)
  test(`a message and its answer pass as they are written: ${what}`, TIME, async (t) => {
    const { posted, sent } = await exchanged(t, request(id), () => answer);
    assert.deepEqual(posted, [request(id)]);
    assert.deepEqual(sent, [result(id)]);
  });

const CHANGES = [
  ['the id was rounded by the server', [JSON_TYPE, result(ROUNDED)]],
  ['a refusal has no id', [JSON_TYPE, refused(''), 403]],
  ['a refusal has the id null', [JSON_TYPE, refused('"id":null,'), 403]],
  ['it is part of a batch', [JSON_TYPE, `[${result(BIG)}]`]],
] as const;

for (const [why, answer] of CHANGES)
  test(`an answer that has to be written again keeps its numbers: ${why}`, TIME, async (t) => {
    const { sent } = await exchanged(t, request(BIG), () => answer);
    assert.equal(sent.length, 1);
    assert.match(sent[0] ?? '', new RegExp(`"id":${BIG}\\b`));
    for (const number of NUMBERS) assert.ok(sent[0]?.includes(number), `${number} in ${sent[0]}`);
  });

test('an id of which the front makes an answer itself is as it was written', TIME, async (t) => {
  const { sent } = await exchanged(t, request(BIG), () => ['text/plain', 'busy', 500]);
  assert.match(sent.join(), new RegExp(`^{"jsonrpc":"2.0","id":${BIG},"error"`));
});

test('an answer to another id than the one asked for is not handed over', TIME, async (t) => {
  const { sent } = await exchanged(t, request(BIG), () => [JSON_TYPE, result('9007199254740999')]);
  assert.equal(sent.length, 1);
  assert.match(sent[0] ?? '', new RegExp(`"id":${BIG},"error"`));
});

test('two ids that JavaScript takes for one have their own answers', TIME, async (t) => {
  const waiting: (() => void)[] = [];
  const sent: string[] = [];
  const url = await playGateway(t, (_message, _request, response, body) => {
    const id = /"id":(\d+)/.exec(body)?.[1] ?? '';
    const text = `{"jsonrpc":"2.0","id":${id},"result":{"to":"${id}"}}`;
    waiting.push(() => response.writeHead(200, { 'content-type': JSON_TYPE }).end(text));
    if (waiting.length === 2) for (const answer of waiting) answer();
  });
  const front = new McpFront({
    endpoint: new McpEndpoint(new URL(url), () => undefined),
    send: async (text) => void sent.push(text),
    report: () => {},
  });
  for (const id of [ROUNDED, BIG]) await front.take(`{"jsonrpc":"2.0","id":${id},"method":"ping"}`);
  await front.close(NEVER);
  const answers = [ROUNDED, BIG].map(
    (id) => `{"jsonrpc":"2.0","id":${id},"result":{"to":"${id}"}}`,
  );
  assert.deepEqual(sent.toSorted(), answers);
});
