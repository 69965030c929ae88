import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Stream, createSecureServer } from 'node:http2';
import { createServer as createHttps1Server } from 'node:https';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { resetStream } from '#core/http2-reset';
import { until } from '../../support/mesh.ts';
import {
  HOST,
  http2Through,
  type ProtocolPath,
  secureThrough,
  startProtocolPath,
} from '../../support/protocol-path.ts';

const RULES = `
    - {id: any, hosts: [api.example.com], methods: [GET, POST], paths: ["/v1/**"]}
    - {id: only-h2, hosts: [api.example.com], methods: [GET, POST], paths: ["/h2/**"], protocols: [http2]}
    - {id: only-h1, hosts: [plain.example.com], methods: [GET, POST], paths: any, protocols: [http1]}
    - {id: old, hosts: [old.example.com], methods: [GET, POST], ports: [8443], paths: any, protocols: [http2]}
`;
/** The proxy waits this long for the beginning of an answer. */
const HEAD_MS = 2_000;

interface Seen {
  readonly version: string;
  readonly url: string;
  body: string;
  ended: boolean;
  closed: boolean;
  readonly write: (text: string | Buffer) => boolean;
  readonly end: () => void;
  readonly onDrain: () => Promise<unknown>;
}

let built: ProtocolPath;
const seen: Seen[] = [];
const close: (() => void)[] = [];

before(async () => {
  built = await startProtocolPath(RULES, ['--upstream-timeout', `${HEAD_MS}ms`]);
  // Speaks both; an HTTP/1.1 client and one of HTTP/2 are served alike.
  const both = createSecureServer({ ...built.certificate, allowHTTP1: true });
  both.on('request', (request, response) => {
    const one: Seen = {
      version: request.httpVersion,
      url: request.url,
      body: '',
      ended: false,
      closed: false,
      write: (text) => response.write(text),
      end: () => void response.end(),
      onDrain: () => once(response, 'drain'),
    };
    seen.push(one);
    request.on('data', (chunk: Buffer) => (one.body += chunk.toString()));
    // Over HTTP/2 there is an end after a reset, too.
    request.on('end', () => (one.ended = !request.aborted)).on('error', () => {});
    response.on('close', () => (one.closed = true)).on('error', () => {});
    if (request.url.includes('/echo'))
      request.on('end', () => response.end(`${request.httpVersion} ${one.body}`));
    else if (!request.url.includes('/late')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: begun\n\n');
    }
  });
  await new Promise<void>((resolve) => both.listen(443, HOST, () => resolve()));
  const old = createHttps1Server(built.certificate, (_, response) => response.end('old'));
  await new Promise<void>((resolve) => old.listen(8443, HOST, () => resolve()));
  close.push(
    () => both.close(),
    () => old.closeAllConnections(),
    () => old.close(),
  );
});
after(async () => {
  for (const step of close) step();
  await built?.stop();
});

/** One request of a program, in one version of HTTP or the other. */
interface Asked {
  text: string;
  status: number;
  closed: boolean;
  readonly leave: () => void;
  readonly write: (text: string, last?: boolean) => void;
  /** Stops reading, and begins again. */
  readonly pause: () => void;
  readonly resume: () => void;
}

const CLIENTS: readonly (readonly [
  version: string,
  ask: (path: string, options?: { host?: string; body?: boolean }) => Promise<Asked>,
])[] = [
  [
    'HTTP/1.1',
    async (path, { host = 'api.example.com', body = false } = {}) => {
      const secure = await secureThrough(built, host, ['http/1.1']);
      const asked: Asked = {
        text: '',
        status: 0,
        closed: false,
        leave: () => void secure.destroy(),
        write: (text, last = false) => {
          secure.write(`${text.length.toString(16)}\r\n${text}\r\n${last ? '0\r\n\r\n' : ''}`);
        },
        pause: () => void secure.pause(),
        resume: () => void secure.resume(),
      };
      secure.on('data', (chunk: Buffer) => {
        asked.text += chunk.toString('latin1');
        asked.status = Number(/^HTTP\/1\.1 (\d{3})/.exec(asked.text)?.[1]);
      });
      secure.once('close', () => (asked.closed = true));
      const framing = body ? 'Transfer-Encoding: chunked\r\n' : '';
      secure.write(`${body ? 'POST' : 'GET'} ${path} HTTP/1.1\r\nHost: ${host}\r\n${framing}\r\n`);
      return asked;
    },
  ],
  [
    'HTTP/2',
    async (path, { host = 'api.example.com', body = false } = {}) => {
      const session = await http2Through(built, host);
      const stream: ClientHttp2Stream = session.request(
        { ':method': body ? 'POST' : 'GET', ':path': path, ':authority': host },
        { endStream: !body },
      );
      const asked: Asked = {
        text: '',
        status: 0,
        closed: false,
        leave: () => resetStream(stream, 8),
        write: (text, last = false) => void (last ? stream.end(text) : stream.write(text)),
        pause: () => void stream.pause(),
        resume: () => void stream.resume(),
      };
      stream.on('response', (head) => (asked.status = Number(head[':status'])));
      stream.on('data', (chunk: Buffer) => (asked.text += chunk.toString('latin1')));
      stream
        .on('error', () => {})
        .once('close', () => {
          asked.closed = true;
          session.close();
        });
      return asked;
    },
  ],
];

for (const [version, ask] of CLIENTS)
  for (const prefix of version === 'HTTP/2' ? ['/v1', '/h2'] : ['/v1']) {
    const what = `${version} to ${prefix}`;

    test(`${what}: events come one by one as the host says them, however long it is silent between`, async () => {
      const asked = await ask(`${prefix}/events`);
      await until('the first', () => asked.text.includes('begun'));
      const host = seen.at(-1);
      for (const word of ['one', 'two']) {
        await sleep(HEAD_MS + 300); // the silence is what is tested
        assert.ok(!asked.text.includes(word));
        host?.write(`data: ${word}\n\n`);
        await until(`the event ${word}`, () => asked.text.includes(`data: ${word}\n\n`));
      }
      host?.end();
      await until('its end', () => asked.text.endsWith('0\r\n\r\n') || asked.closed);
      asked.leave();
    });

    test(`${what}: a program that leaves is gone for the host`, async () => {
      const asked = await ask(`${prefix}/events`);
      await until('it began', () => asked.text.includes('begun'));
      asked.leave();
      await until('the host hears of it', () => seen.at(-1)?.closed === true);
      const record = () => built.path.requests().at(-1);
      await until(
        'the record',
        () =>
          record()?.['target'] === `https://api.example.com${prefix}/events` &&
          record()?.['code'] === 'CANCELLED',
      );
    });

    test(`${what}: a body of unsaid length arrives piece by piece and whole`, async () => {
      const asked = await ask(`${prefix}/echo`, { body: true });
      asked.write('first ');
      await until('the first piece is there', () => seen.at(-1)?.body === 'first ');
      asked.write('second', true);
      await until('the answer', () => asked.text.includes('first second'));
      const expected = prefix === '/h2' ? '2.0' : '1.1';
      assert.ok(asked.text.includes(`${expected} first second`), asked.text);
      asked.leave();
    });

    test(`${what}: a body that breaks off never is a whole one`, async () => {
      const asked = await ask(`${prefix}/echo`, { body: true });
      asked.write('half');
      await until('it is there', () => seen.at(-1)?.body === 'half');
      asked.leave();
      await until('it is closed', () => seen.at(-1)?.closed === true);
      assert.equal(seen.at(-1)?.ended, false);
    });

    test(`${what}: the host speaks no faster than the program reads`, async () => {
      const asked = await ask(`${prefix}/flood`);
      await until('it began', () => asked.text.includes('begun'));
      asked.pause();
      const host = seen.at(-1);
      const total = 64 * 1_048_576;
      const chunk = Buffer.alloc(65_536, 'x');
      let sent = 0;
      let stalled = false;
      while (sent < total && !stalled) {
        sent += chunk.length;
        if (host?.write(chunk) === false)
          stalled = await Promise.race([
            host.onDrain().then(() => false),
            sleep(1_000, true, { ref: false }),
          ]);
      }
      assert.ok(stalled && sent < 16 * 1_048_576, `${sent} bytes left the host`);
      asked.leave();
      await until('it is over', () => seen.at(-1)?.closed === true);
    });
  }

test('control: a host that does not begin in time is answered 504', async () => {
  const [, ask] = CLIENTS[0] ?? [];
  const asked = await ask?.('/v1/late');
  await until('the answer', () => asked?.status === 504);
  asked?.leave();
});

test('a rule for HTTP/2 alone is not for HTTP/1.1, and the other way round; what no rule speaks is not offered', async () => {
  const [[, http1] = [], [, http2] = []] = CLIENTS;
  const refused = await http1?.('/h2/echo');
  await until('the answer', () => refused?.status === 403);
  assert.match(refused?.text ?? '', /protocol_not_allowed/);
  refused?.leave();
  const granted = await http2?.('/h2/echo');
  await until('control: it is granted', () => granted?.text === '2.0 ');
  const secure = await secureThrough(built, 'plain.example.com', ['h2', 'http/1.1']);
  assert.equal(secure.alpnProtocol, 'http/1.1');
  secure.destroy();
});

test('a host that does not agree to HTTP/2 is answered 502 where the rule is for nothing else', async () => {
  const session = await http2Through(built, 'old.example.com', 8443);
  const stream = session.request({ ':path': '/x', ':authority': 'old.example.com:8443' });
  const [head]: { ':status'?: number }[] = await once(stream, 'response');
  assert.equal(head?.[':status'], 502);
  session.destroy();
});
