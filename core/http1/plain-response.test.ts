import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { HttpResponse } from '../http-exchange.ts';
import { until } from './test-rig.ts';
import { get, type Lane, post, type Serve, served } from './testing/plain.ts';

// An answer is written as Node writes it: each is given by a server with the lane and by one without. Where Node makes chunks of a body that
// comes with its end, a length may be said instead: that is the same body.

type Answer = (response: HttpResponse) => void;

const LARGE = Buffer.alloc(100_000, 'large ');
const SMALL = Buffer.from('piece \xff', 'latin1');

const ANSWERS: readonly (readonly [what: string, answer: Answer])[] = [
  ['nothing said', (response) => void response.end()],
  ['a text', (response) => void response.end('caf\xe9 \u20ac')],
  ['a text of bytes', (response) => void response.end('caf\xe9', 'latin1')],
  ['a buffer', (response) => void response.end(SMALL)],
  ['a large buffer', (response) => void response.end(LARGE)],
  ['a status and headers', (response) => void response.writeHead(418, ['a', 'b']).end('x')],
  ['headers by name', (response) => void response.writeHead(200, { a: 1, B: ['2', '3'] }).end()],
  [
    'two of a name',
    (response) => void response.writeHead(200, ['a', '1', 'A', '2', 'set-cookie', '3']).end(),
  ],
  ['bytes in a header', (response) => void response.writeHead(200, ['a', '\xe9\t\x80 ']).end()],
  ['an unknown status', (response) => void response.writeHead(599).end()],
  ['the highest status', (response) => void response.writeHead(999).end()],
  [
    'words of its own',
    (response) => {
      response.statusMessage = 'Well (yes: \xe9)';
      response.writeHead(200).end();
    },
  ],
  [
    'a status that was set',
    (response) => {
      response.statusCode = 404;
      response.end('x');
    },
  ],
  [
    'headers that were set',
    (response) => {
      response.setHeader('A', '1');
      response.setHeader('b', '2');
      response.setHeader('a', '3');
      response.writeHead(200, ['B', '4', 'c', '5', 'b', '6']).end('x');
    },
  ],
  [
    'a length',
    (response) => void response.writeHead(200, { 'Content-Length': SMALL.length }).end(SMALL),
  ],
  [
    'a length, and pieces',
    (response) => {
      response.writeHead(200, ['content-length', '200007']);
      response.write(LARGE);
      response.write(SMALL);
      response.end(LARGE);
    },
  ],
  [
    'pieces',
    (response) => {
      response.write(SMALL);
      response.write(Buffer.alloc(0));
      response.write(LARGE);
      response.end();
    },
  ],
  [
    'pieces, and a last one',
    (response) => {
      response.writeHead(200, ['transfer-encoding', 'chunked']);
      response.write(SMALL);
      response.end(LARGE);
    },
  ],
  [
    'chunks of one piece',
    (response) => void response.writeHead(200, ['Transfer-Encoding', 'chunked']).end(SMALL),
  ],
  [
    'chunks of nothing',
    (response) => void response.writeHead(200, ['Transfer-Encoding', 'chunked']).end(),
  ],
  [
    'a head that is sent first',
    (response) => {
      response.flushHeaders();
      response.flushHeaders();
      response.end('later');
    },
  ],
  [
    'a head that is sent first, and nothing',
    (response) => {
      response.writeHead(200, ['content-length', '0']).flushHeaders();
      response.end();
    },
  ],
  [
    'trailers',
    (response) => {
      response.writeHead(200, ['trailer', 'a, b', 'transfer-encoding', 'chunked']);
      response.write(SMALL);
      response.addTrailers({ a: '1', b: '\xe9' });
      response.end();
    },
  ],
  [
    'trailers of nothing',
    (response) => {
      response.writeHead(200, ['trailer', 'a', 'transfer-encoding', 'chunked']);
      response.addTrailers({ a: '1' });
      response.end();
    },
  ],
  ['204', (response) => void response.writeHead(204).end()],
  ['204 and what is no body of it', (response) => void response.writeHead(204).end('body')],
  ['304', (response) => void response.writeHead(304, ['etag', '"a"']).end()],
  ['304 with a length', (response) => void response.writeHead(304, { 'content-length': 7 }).end()],
  [
    '304 and pieces',
    (response) => {
      response.writeHead(304);
      response.write(SMALL);
      response.end(SMALL);
    },
  ],
  ['a date', (response) => void response.writeHead(200, { Date: 'then' }).end()],
  ['a last answer', (response) => void response.writeHead(200, { Connection: 'close' }).end('x')],
  [
    'a last answer among options',
    (response) => void response.writeHead(200, { connection: 'te, Close' }).end('x'),
  ],
  [
    'a last answer, and not',
    (response) =>
      void response.writeHead(200, ['connection', 'close', 'connection', 'keep-alive']).end('x'),
  ],
  [
    'a last answer by what was set',
    (response) => {
      response.setHeader('connection', 'close');
      response.writeHead(200, ['a', 'b']).end('x');
    },
  ],
  [
    'a last answer that the server wants',
    (response) => {
      response.shouldKeepAlive = false;
      response.end('x');
    },
  ],
];

const REQUESTS = [
  get('/'),
  get('/').replace('GET', 'HEAD'),
  post('/', 'abc'),
  get('/', 'Connection: close'),
] as const;
for (const [what, answer] of ANSWERS)
  test(`it is written as Node writes it: ${what}`, async (t) => {
    for (const request of REQUESTS) {
      const [ours, node] = [
        await answered(t, 'ours', request, answer),
        await answered(t, 'node', request, answer),
      ];
      if (node.isChunked && !ours.isChunked) {
        assert.equal(
          ours.length,
          request.startsWith('HEAD') ? undefined : String(ours.body.length),
        );
        assert.deepEqual({ ...ours, isChunked: true, length: undefined }, node, request);
      } else assert.deepEqual(ours, node, request);
    }
  });

/** One answer, and whether its connection takes another request; names in lower case, and of dates only that there is one. */
async function answered(t: TestContext, lane: Lane, request: string, answer: Answer) {
  const { dial, requests } = await served(
    t,
    ({ url }, response) => {
      if (url === '/next') response.writeHead(200, ['connection', 'close']).end('<next>');
      else answer(response);
    },
    { lane },
  );
  const client = dial();
  client.send(request);
  await client.said();
  const head = client.received.slice(0, client.received.indexOf('\r\n\r\n'));
  const [status = '', ...lines] = head.split('\r\n');
  const isLast = /^connection:.*close/im.test(head) || /^connection: close/im.test(request);
  if (!isLast) client.send(get('/next'));
  await client.closed();
  assert.equal(requests[0]?.isPlain, lane === 'ours');
  const rest = client.received.slice(head.length + 4);
  const next = rest.indexOf('HTTP/1.1 200 OK');
  const fields = lines.map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()));
  const isFraming = /^(?:content-length|transfer-encoding): /;
  const isChunked = fields.some((field) => /^transfer-encoding: chunked$/i.test(field));
  const body = next < 0 ? rest : rest.slice(0, next);
  return {
    status,
    // Where Node puts them nobody has to know; in which order those of one name come, all.
    fields: fields
      .filter((line) => !isFraming.test(line))
      .map((line) => line.replace(/^date: .*GMT$/, 'date: now'))
      .toSorted((a, b) => ((a.split(':')[0] ?? '') < (b.split(':')[0] ?? '') ? -1 : 1)),
    isChunked,
    length: /^content-length: (.*)$/m.exec(fields.join('\n'))?.[1],
    body: isChunked && body !== '' ? dechunked(body) : body,
    takesAnother: next >= 0,
  };
}

/** Where a body is cut into chunks nobody has to know; its trailers stand behind it. */
function dechunked(body: string): string {
  let text = '';
  let rest = body;
  for (;;) {
    const size = /^([0-9a-f]+)\r\n/i.exec(rest);
    assert.ok(size, rest.slice(0, 20));
    const length = Number.parseInt(size[1] ?? '', 16);
    rest = rest.slice(size[0].length);
    if (length === 0) return text + rest.replace(/\r\n$/, '');
    text += rest.slice(0, length);
    assert.equal(rest.slice(length, length + 2), '\r\n');
    rest = rest.slice(length + 2);
  }
}

// What must not be written.

const UNFIT: readonly (readonly [what: string, give: Answer])[] = [
  ['a line end in a value', (response) => void response.writeHead(200, ['a', 'b\r\nc: d'])],
  ['a bare LF in a value', (response) => void response.writeHead(200, { a: 'b\nc' })],
  ['NUL in a value', (response) => void response.writeHead(200, ['a', '\0'])],
  ['what is no byte in a value', (response) => void response.writeHead(200, ['a', '\u010a'])],
  ['a line end in one of several', (response) => void response.writeHead(200, { a: ['b', '\r'] })],
  ['a line end in a name', (response) => void response.writeHead(200, ['a\r\nb', 'c'])],
  ['a colon in a name', (response) => void response.writeHead(200, ['a:', 'c'])],
  ['an empty name', (response) => void response.writeHead(200, ['', 'c'])],
  ['no value', (response) => void response.writeHead(200, ['a'])],
  [
    'a line end in what was set',
    (response) => {
      response.setHeader('a', 'b\r\nc: d');
      response.writeHead(200);
    },
  ],
  [
    'a line end in the words of a status',
    (response) => {
      response.statusMessage = 'OK\r\na: b';
      response.writeHead(200);
    },
  ],
  ['an interim status', (response) => void response.writeHead(100)],
  ['no status', (response) => void response.writeHead(Number.NaN)],
  ['a line end in a trailer', (response) => response.addTrailers({ a: 'b\r\n\r\nc' })],
  ['a line end in the name of a trailer', (response) => response.addTrailers({ 'a\r\nb': 'c' })],
  ['a length with a sign', (response) => void response.writeHead(200, { 'content-length': -1 })],
  [
    'two lengths',
    (response) => void response.writeHead(200, ['content-length', '1', 'Content-Length', '2']),
  ],
];
for (const [what, give] of UNFIT)
  test(`never written is ${what}, and there is still an answer to be given`, async (t) => {
    const { dial } = await served(t, (_request, response) => {
      assert.throws(() => give(response));
      response.statusMessage = '';
      response.setHeader('a', 'fine');
      response.writeHead(500, ['content-length', '4']).end('Fine');
    });
    const client = dial();
    client.send(get('/'));
    await client.said(/Fine$/);
    assert.match(client.received, /^HTTP\/1\.1 500 Internal Server Error\r\n/);
    assert.equal(client.received.split('\r\n\r\n').length, 2);
  });

test('a head is written once', async (t) => {
  const { dial } = await served(t, (_request, response) => {
    response.writeHead(200);
    assert.equal(response.headersSent, true);
    assert.throws(() => response.writeHead(200));
    assert.throws(() => response.setHeader('a', 'b'));
    response.end('x');
    assert.equal(response.write(Buffer.from('more')), false);
    response.end('more');
  });
  const client = dial();
  client.send(get('/'));
  await client.said(/x$/);
  client.send(get('/'));
  await until('two', () => client.received.match(/\r\n\r\nx/g)?.length === 2);
  assert.ok(!client.received.includes('more'));
});

/** Where Node would let one answer run into the next, or its client wait for ever. */
const WRONG: readonly (readonly [what: string, answer: Answer, received: RegExp])[] = [
  ['longer, at once', (response) => void response.end('toolong'), /^$/],
  [
    'longer, in pieces',
    (response) => {
      response.write(Buffer.from('to'));
      response.write(Buffer.from('olong'));
      response.end();
    },
    /^(?:[^]*\r\n\r\nto)?$/,
  ],
  [
    'shorter, in pieces',
    (response) => {
      response.write(Buffer.from('to'));
      response.end();
    },
    /^(?:[^]*\r\n\r\nto)?$/,
  ],
  ['shorter, at once', (response) => void response.end('to'), /^$/],
  ['missing', (response) => void response.end(), /^$/],
];
for (const [what, answer, received] of WRONG)
  test(`a body that is not as long as its head says is cut: ${what}`, async (t) => {
    const ends: boolean[] = [];
    const { dial } = await served(t, (_request, response) => {
      response.on('close', () => void ends.push(response.writableFinished));
      answer(response.writeHead(200, ['content-length', '3']));
    });
    const client = dial();
    client.send(get('/'));
    await client.closed();
    assert.match(client.received, received);
    await until('its end', () => ends.length > 0);
    assert.deepEqual(ends, [false]);
  });

test('who does not read is waited for: write says so, and drain when it goes on', async (t) => {
  const pieces = 200;
  let written = 0;
  let drains = 0;
  const serve: Serve = (_request, response) => {
    const more = (): void => {
      while (written < pieces) {
        written += 1;
        if (!response.write(LARGE)) {
          assert.equal(response.writableNeedDrain, true);
          return;
        }
      }
      response.end();
    };
    response.on('drain', () => {
      assert.equal(response.writableNeedDrain, false);
      drains += 1;
      more();
    });
    more();
  };
  const { dial, otherSide } = await served(t, serve);
  const client = dial();
  client.socket.pause();
  client.send(get('/'));
  const there = await otherSide(client);
  await until('the answer to begin', () => there.writableLength > 0);
  assert.ok(written < pieces, 'it waits');
  client.socket.resume();
  await client.said(/\r\n0\r\n\r\n$/);
  assert.ok(drains > 0);
  const body = client.received.slice(client.received.indexOf('\r\n\r\n') + 4);
  assert.equal(dechunked(body).length, pieces * LARGE.length);
});

test('the end of an answer is told once: when it is out, before the next request', async (t) => {
  const told: string[] = [];
  const { dial } = await served(t, (request, response) => {
    told.push(`request ${request.url}`);
    request.on('close', () => void told.push('request over'));
    response.once('finish', () => void told.push(`finish ${response.writableFinished}`));
    response.on(
      'close',
      () => void told.push(`close ${response.destroyed} ${response.socket === null}`),
    );
    response.end('x');
    told.push(`ended ${response.writableEnded} ${response.writableFinished}`);
  });
  const client = dial();
  const one = (url: string) => [
    `request ${url}`,
    'ended true false',
    'finish true',
    'close true true',
    'request over',
  ];
  client.send(get('/a'));
  await client.said(/x$/);
  client.send(get('/b'));
  await until('both', () => told.length === 10);
  client.socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(told, [...one('/a'), ...one('/b')]);
});

test('trailers that are given before anything else is written are not lost', async (t) => {
  const { dial } = await served(t, (_request, response) => {
    response.addTrailers({ a: 'b' });
    response.end('x');
  });
  const client = dial();
  client.send(get('/'));
  await client.said(/\r\n1\r\nx\r\n0\r\na: b\r\n\r\n$/);
});

test('for how long a connection is kept is said as Node says it', async (t) => {
  for (const [keepAliveTimeout, wanted] of [
    [5_000, 'timeout=5'],
    [65_999, 'timeout=65'],
    [0, undefined],
  ] as const) {
    const { dial } = await served(t, (_request, response) => void response.end('x'), {
      keepAliveTimeout,
    });
    const client = dial();
    client.send(get('/'));
    await client.said(/x$/);
    assert.equal(/\r\nkeep-alive: (.*)\r\n/.exec(client.received)?.[1], wanted);
  }
});
