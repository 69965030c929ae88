import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import { accepts } from '#core/http';
import { SidecarServiceClient } from '#proto';
import {
  get,
  RecordingProxy,
  Runner,
  reasonOf,
  requestRecords,
  send,
  statusOf,
  until,
} from './test-rig.ts';

// One sidecar process with two doors, as on a machine of one tenant: whatever the program behind one does, the process stays small and
// the program behind the other is served.

const SEEN = 'seen.allowed.test';
const RUN = `import('./sidecar/main.ts').then(async ({ main }) => {
  process.exit(await main(process.argv.slice(1), process.env));
});`;
/** Of both doors. This process attacks and asks at once: it must have written what it asks by then. */
const HEADER_TIMEOUT_MS = 4_000;
/** What the process may grow by while it is attacked. */
const GROWTH_MAX_MIB = 96;
/** The longest that the neighbour may wait for one answer. Machines that run tests are busy; a door that is held up answers never. */
const NEIGHBOUR_MAX_MS = 20_000;
/** A door that stays shut is shut for good; how long the opening takes is a matter of the machine. */
const OPENS_AGAIN_WITHIN_MS = 60_000;

const LATER = new Date(Date.now() + 600_000);

let directory: string;
let child: ChildProcess;
let proxy: RecordingProxy;
let client: SidecarServiceClient;
let attacker: Runner;
let neighbour: Runner;
let ca: string;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'abuse-'));
  proxy = new RecordingProxy(join(directory, 'proxy.sock'));
  await proxy.listen();
  // Started by root, the sidecar becomes the mesh's user.
  chmodSync(directory, 0o777);
  chmodSync(proxy.path, 0o666);
  child = spawn(
    process.execPath,
    [
      '--conditions=outrider-source',
      '-e',
      RUN,
      '--',
      '--admin',
      '127.0.0.1:0',
      '--header-timeout',
      `${HEADER_TIMEOUT_MS}ms`,
    ],
    {
      cwd: join(import.meta.dirname, '..'),
      env: { PATH: process.env['PATH'], OUTRIDER_RUNTIME_DIR: directory },
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  const path = join(directory, 'sidecar.sock');
  const deadline = Date.now() + 120_000;
  while (!(await accepts({ kind: 'unix', path }))) {
    assert.ok(Date.now() < deadline, 'the sidecar listens');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  client = new SidecarServiceClient(`unix:${path}`, credentials.createInsecure());
  attacker = await openDoor('attacker');
  ca = await attacker.bind({ expiresAt: LATER });
  neighbour = await openDoor('neighbour');
  await neighbour.bind({ execId: 'exec-2', expiresAt: LATER });
});
after(async () => {
  client?.close();
  child?.kill('SIGKILL');
  await proxy?.close();
  rmSync(directory, { recursive: true, force: true });
});

async function openDoor(id: string): Promise<Runner> {
  const runner = new Runner(client, join(directory, `${id}.sock`));
  await runner.ask({
    $case: 'open',
    value: {
      attachmentId: id,
      sandboxId: `sbx-${id}`,
      spoolPath: '',
      listen: { $case: 'unix', value: { path: runner.door, controlPath: '' } },
    },
  });
  return runner;
}

function residentMib(): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s*(\d+) kB/m.exec(status)?.[1]) / 1_024;
}

/** Runs an attack while the neighbour goes on asking, and holds process and neighbour against their bounds. */
async function underAttack(attack: () => Promise<void>): Promise<void> {
  const beforeMib = residentMib();
  const seen = { most: beforeMib, worstMs: 0, answered: 0, over: false };
  const asking = (async () => {
    while (!seen.over || seen.answered === 0) {
      const began = performance.now();
      const answer = await send(
        neighbour.door,
        get('http://api.allowed.test/v1/a', 'api.allowed.test'),
        NEIGHBOUR_MAX_MS,
      );
      assert.equal(statusOf(answer), 200, 'the neighbour is served');
      seen.worstMs = Math.max(seen.worstMs, performance.now() - began);
      seen.most = Math.max(seen.most, residentMib());
      seen.answered += 1;
    }
  })();
  try {
    await attack();
  } finally {
    seen.over = true;
  }
  await asking;
  assert.equal(child.exitCode, null, 'the process lives');
  assert.ok(seen.worstMs < NEIGHBOUR_MAX_MS, `the neighbour waited ${seen.worstMs} ms`);
  assert.ok(
    seen.most - beforeMib < GROWTH_MAX_MIB,
    `it grew from ${beforeMib} to ${seen.most} MiB`,
  );
}

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const [HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, , WINDOW_UPDATE, CONTINUATION] = [
  1, 2, 3, 4, 6, 7, 8, 9,
] as const;
const [END_STREAM, END_HEADERS] = [1, 4];

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK (RFC 7541, 6.2.1): a field that is new, put into the table or not. */
function literal(name: string, value: string, indexed = false): Buffer {
  const text = (part: string) => {
    const bytes = Buffer.from(part, 'latin1');
    return Buffer.concat([integer(bytes.length, 7, 0), bytes]);
  };
  return Buffer.concat([Buffer.from([indexed ? 0x40 : 0]), text(name), text(value)]);
}

function integer(value: number, bits: number, first: number): Buffer {
  const max = 2 ** bits - 1;
  if (value < max) return Buffer.from([first | value]);
  const bytes = [first | max];
  let rest = value - max;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

/** A head that the policy allows. */
const ASK = Buffer.concat([
  Buffer.from([0x82, 0x87]), // :method GET, :scheme https
  literal(':path', '/v1/a'),
  literal(':authority', SEEN),
]);
const ping = frame(PING ?? 0, 0, 0, Buffer.alloc(8));
const settings = frame(SETTINGS ?? 0, 0, 0, Buffer.alloc(0));

interface RawHttp2 {
  readonly tls: TLSSocket;
  /** Types of the frames that came. */
  readonly types: Set<number>;
  closed: boolean;
}

/** HTTP/2 inside a CONNECT, spoken by hand. */
async function http2(): Promise<RawHttp2> {
  const socket = connect({ path: attacker.door });
  socket.on('error', () => {}); // it is cut in the middle of a word
  socket.write(`CONNECT ${SEEN}:443 HTTP/1.1\r\nHost: ${SEEN}:443\r\n\r\n`);
  await once(socket, 'data');
  const tls = connectTls({ socket, servername: SEEN, ca: [ca], ALPNProtocols: ['h2'] });
  await once(tls, 'secureConnect');
  const raw: RawHttp2 = { tls, types: new Set(), closed: false };
  let bytes = Buffer.alloc(0);
  tls.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      raw.types.add(bytes[3] ?? 0);
      bytes = bytes.subarray(9 + bytes.readUIntBE(0, 3));
    }
  });
  tls
    .on('error', () => {})
    .once('close', () => {
      raw.closed = true;
    });
  tls.write(Buffer.concat([Buffer.from(PREFACE), settings]));
  return raw;
}

/** Says the same again and again until the connection is gone, or all is said. */
async function flood({ tls }: RawHttp2, times: number, say: (at: number) => Buffer): Promise<void> {
  for (let at = 0; at < times && !tls.destroyed && tls.writable; at += 1) {
    if (tls.write(say(at))) continue;
    await Promise.race([once(tls, 'drain'), once(tls, 'close')]).catch(() => {});
  }
}

const stream = (at: number): number => at * 2 + 1;
const batch = (count: number, piece: (at: number) => Buffer, at: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, each) => piece(at * count + each)));

const FLOODS: readonly (readonly [what: string, attack: (raw: RawHttp2) => Promise<void>])[] = [
  [
    'streams that are reset as soon as they are asked for',
    (raw) =>
      flood(raw, 200, (at) =>
        batch(
          100,
          (each) =>
            Buffer.concat([
              frame(HEADERS, END_HEADERS | END_STREAM, stream(each), ASK),
              frame(RST_STREAM, 0, stream(each), Buffer.from([0, 0, 0, 8])),
            ]),
          at,
        ),
      ),
  ],
  [
    'a head that never ends (CONTINUATION)',
    async (raw) => {
      raw.tls.write(frame(HEADERS, END_STREAM, 1, ASK));
      const more = frame(CONTINUATION, 0, 1, literal('x-a', 'y'.repeat(8_000)));
      await flood(raw, 5_000, () => more);
    },
  ],
  [
    'a head that never ends, in empty pieces',
    async (raw) => {
      raw.tls.write(frame(HEADERS, END_STREAM, 1, ASK));
      const more = frame(CONTINUATION, 0, 1, Buffer.alloc(0));
      await flood(raw, 1_000, () => batch(100, () => more, 0));
    },
  ],
  ['settings to be acknowledged', (raw) => flood(raw, 2_000, () => batch(200, () => settings, 0))],
  ['pings to be answered', (raw) => flood(raw, 2_000, () => batch(200, () => ping, 0))],
];

for (const [what, attack] of FLOODS)
  test(`E8: ${what}: the connection is closed, and nobody else notices`, async () => {
    await underAttack(async () => {
      const raw = await http2();
      await attack(raw);
      await until(() => raw.closed);
    });
    const well = await http2();
    well.tls.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, ASK));
    await until(() => well.types.has(HEADERS ?? 0));
    well.tls.destroy();
  });

const plainAnswer: RecordingProxy['answer'] = (_, response) =>
  void response.writeHead(200, { 'content-type': 'text/plain' }).end('hello');

test('E8: frames without a purpose, heads that unpack to a thousand times their size, more streams than are offered: nobody else notices', async () => {
  await underAttack(async () => {
    const raw = await http2();
    const update = frame(WINDOW_UPDATE, 0, 0, Buffer.from([0, 0, 0, 1]));
    const priority = frame(PRIORITY, 0, 1, Buffer.from([0, 0, 0, 0, 1]));
    await flood(raw, 500, () => batch(100, (at) => (at % 2 ? update : priority), 0));
    // A head that unpacks to a thousand times its size: the newest entry of the table, again and again.
    const bomb = Buffer.concat([
      ASK,
      literal('x-bomb', 'b'.repeat(3_900), true),
      Buffer.alloc(8_000, 0x80 | 62),
    ]);
    await flood(raw, 20, (at) =>
      frame(HEADERS, END_HEADERS | END_STREAM, stream(at + 10_000), bomb),
    );
    // The attacker is never answered.
    proxy.answer = (request, response) => {
      if (!request.url?.includes(SEEN)) plainAnswer(request, response);
    };
    await flood(raw, 20, (at) =>
      batch(50, (each) => frame(HEADERS, END_HEADERS | END_STREAM, stream(each), ASK), at),
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    raw.tls.destroy();
    proxy.answer = plainAnswer;
  });
});

test('E8: a head of 1 MiB is answered 431 and the connection closed', async () => {
  await underAttack(async () => {
    const head = get(
      'http://api.allowed.test/v1/a',
      'api.allowed.test',
      `X-Big: ${'a'.repeat(1_048_576)}\r\n`,
    );
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => send(attacker.door, head, 500)),
    );
    for (const answer of answers) assert.equal(statusOf(answer), 431);
  });
});

test('E8: heads that come byte by byte are answered 408, and all places are free again', async () => {
  await underAttack(async () => {
    const sockets: Socket[] = [];
    let closed = 0;
    const answers: string[] = [];
    for (let at = 0; at < 200; at += 1) {
      const socket = connect({ path: attacker.door });
      let text = '';
      socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
      socket
        .on('error', () => {})
        .once('close', () => {
          closed += 1;
          answers.push(text);
        });
      socket.write(
        'GET http://api.allowed.test/v1/a HTTP/1.1\r\nHost: api.allowed.test\r\nX-Slow: ',
      );
      sockets.push(socket);
    }
    const drip = setInterval(() => {
      for (const socket of sockets) if (socket.writable) socket.write('a');
    }, 100);
    await until(() => closed === sockets.length);
    clearInterval(drip);
    assert.ok(answers.filter((text) => reasonOf(text) === 'headers_timeout').length >= 150);
  });
});

test('E8: ten thousand connections that want a tunnel are held to the bound, and the door opens again', async () => {
  await underAttack(async () => {
    let closed = 0;
    const sockets: Socket[] = [];
    for (let round = 0; round < 20; round += 1) {
      for (let at = 0; at < 500; at += 1) {
        const socket = connect({ path: attacker.door });
        socket.resume().on('error', () => {});
        socket.once('close', () => (closed += 1));
        socket.write('CONNECT tls.allowed.test:443 HTTP/1.1\r\nHost: tls.allowed.test:443\r\n\r\n');
        sockets.push(socket);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => closed >= 10_000 - 256, 120_000).catch((error: unknown) => {
      throw new Error(`${closed} were closed`, { cause: error });
    });
    for (const socket of sockets) socket.destroy();
  });
  // A program that was refused thousands of times is held back for as long as its refusals are due, 10 s at most.
  const deadline = performance.now() + OPENS_AGAIN_WITHIN_MS;
  let status = 0;
  while (status !== 200 && performance.now() < deadline)
    status = statusOf(
      await send(attacker.door, get('http://api.allowed.test/v1/a', 'api.allowed.test'), 1_000),
    );
  assert.equal(status, 200);
});

test('a connection inside TLS that says nothing is closed, and is no request that was late', async () => {
  const socket = connect({ path: attacker.door });
  socket.on('error', () => {}); // it is cut in the middle of a word
  socket.write(`CONNECT ${SEEN}:443 HTTP/1.1\r\nHost: ${SEEN}:443\r\n\r\n`);
  await once(socket, 'data');
  const tls = connectTls({ socket, servername: SEEN, ca: [ca], ALPNProtocols: ['http/1.1'] });
  tls.on('error', () => {}).resume();
  await once(tls, 'secureConnect');
  const late = () =>
    requestRecords(proxy).filter(
      ({ reason, ingress }) => reason === 'headers_timeout' && ingress === 'intercept',
    ).length;
  const earlier = late();
  await new Promise((resolve) => setTimeout(resolve, 2.5 * HEADER_TIMEOUT_MS)); // more than twice the time for a head
  assert.ok(!tls.destroyed, 'it may still ask');
  assert.equal(late(), earlier);
  tls.write(`GET /v1/a HTTP/1.1\r\nHost: ${SEEN}\r\nX-Half: `);
  await until(() => late() === earlier + 1);
});
