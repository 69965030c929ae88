import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createBoxes, type LiveBox } from './test-rig.ts';

/** What connects inside reaches the sidecar's socket when the door is open, and not before. */

const boxes = createBoxes(224_000);
after(() => boxes.close());
let box: LiveBox;
let connections = 0;
const heard: string[] = [];
before(async () => {
  box = await boxes.profile('python');
  box.egress.on('connection', (socket) => {
    connections += 1;
    socket.on('error', () => {});
    socket.on('data', (data) => {
      heard.push(data.toString());
      socket.end('pong');
    });
  });
});
beforeEach(async () => {
  connections = 0;
  heard.length = 0;
  await box.link.ready();
});

const PING = `
import socket, sys
s = socket.create_connection(('127.0.0.1', 3128))
s.sendall(b'ping')
print('connected', flush=True)
print(s.recv(10).decode())
`;

test('a connection passes both ways', async () => {
  assert.equal((await box.run({ code: PING })).stdout, 'connected\npong\n');
  assert.deepEqual(heard, ['ping']);
});

test('behind a shut door it waits, and passes when the door opens', async () => {
  const { id, outcome, wrote } = box.start({ code: PING, door: 'shut' });
  await wrote('connected');
  await box.link.stat('/workspace'); // the agent has had time for more than an accept
  assert.equal(connections, 0);
  box.link.openDoor(id);
  assert.equal((await outcome).stdout, 'connected\npong\n');
  assert.equal(connections, 1);
});

test('behind a door that is never opened nothing passes, and the next program does not inherit it', async () => {
  const { id, outcome, wrote } = box.start({ code: PING, door: 'shut' });
  await wrote('connected');
  box.link.kill(id);
  await outcome;
  await box.link.ready();
  assert.equal((await box.run({ code: 'print(1)' })).stdout, '1\n');
  assert.equal(connections, 0);
});

test('a late word to open is for the program that it names', async () => {
  const first = box.start({ code: 'pass', door: 'shut' });
  await first.outcome;
  await box.link.ready();
  const second = box.start({ code: PING, door: 'shut' });
  await second.wrote('connected');
  box.link.openDoor(first.id);
  await box.link.stat('/workspace');
  assert.equal(connections, 0);
  box.link.openDoor(second.id);
  assert.equal((await second.outcome).stdout, 'connected\npong\n');
});

test('a connection ends with its program', async () => {
  const ended = new Promise<void>((resolve) => {
    box.egress.once('connection', (socket) => socket.once('close', () => resolve()));
  });
  const { id, outcome, wrote } = box.start({
    code: `${PING}\nimport time\nk = socket.create_connection(('127.0.0.1', 3128))\nprint('kept', flush=True)\ntime.sleep(60)`,
  });
  await wrote('kept');
  box.link.kill(id);
  await outcome;
  await ended;
});

describe('what the sidecar said before it was gone is heard', () => {
  let answering: LiveBox;
  let answer: (socket: Socket) => void = () => {};
  before(async () => {
    answering = await boxes.profile('python');
    answering.egress.on('connection', (socket) => {
      socket.on('error', () => {});
      socket.once('data', () => answer(socket));
    });
  });
  beforeEach(() => answering.link.ready());

  test('by who was still sending', async () => {
    answer = (socket) => {
      socket.pause(); // what is unread at the end breaks the connection
      socket.write('413', () => socket.destroy());
    };
    const code = `
import socket
heard = []
for _ in range(200):
    s = socket.create_connection(('127.0.0.1', 3128))
    try:
        for _ in range(1000):
            s.sendall(b'a' * 65536)
    except ConnectionError:
        pass
    try:
        heard.append(s.recv(10))
    except ConnectionError as error:
        heard.append(error)
print(heard.count(b'413'), [one for one in heard if one != b'413'])
`;
    const { stdout, stderr } = await answering.run({ code });
    assert.equal(stdout, '200 []\n', stderr);
  });

  test('by who reads late', async () => {
    // Some of these fill what is between, so that the last bytes wait where the relay keeps them.
    const sizes = Array.from({ length: 30 }, (_, at) => (at + 1) * 100_000);
    answer = (socket) => void socket.end(Buffer.alloc(sizes.pop() ?? 0), () => socket.destroy());
    const code = `
import socket, time
lines = []
for _ in range(${sizes.length}):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(('127.0.0.1', 3128))
    s.sendall(b'ping')
    lines.append(s)
time.sleep(0.5)
counts = []
for s in lines:
    count = 0
    while data := s.recv(1 << 18):
        count += len(data)
    counts.append(count)
print(sorted(counts))
`;
    const expected = sizes.toSorted((a, b) => a - b).join(', ');
    const { stdout, stderr } = await answering.run({ code });
    assert.equal(stdout, `[${expected}]\n`, stderr);
  });
});

describe("Node's own ways out go through the door", () => {
  let node: LiveBox;
  before(async () => {
    node = await boxes.profile('node');
    node.egress.on('connection', (socket) => {
      socket.on('error', () => {});
      socket.once('data', (data) => {
        heard.push(data.toString());
        socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno');
      });
    });
  });
  const cases: readonly (readonly [string, string])[] = [
    ['fetch', `await fetch('http://api.test/x').then((r) => r.text(), (e) => e)`],
    [
      'http.get',
      `await new Promise((r) => require('http').get('http://api.test/x', (i) => i.resume().on('end', r)).on('error', r))`,
    ],
    [
      'import of node:http',
      `const { get } = await import('node:http'); await new Promise((r) => get('http://api.test/x', (i) => i.resume().on('end', r)).on('error', r))`,
    ],
  ];
  for (const [what, code] of cases)
    test(what, async () => {
      await node.link.ready();
      const { end, stderr } = await node.run({ language: 'javascript', name: 'main.mjs', code });
      assert.equal(end?.exit, 0, stderr);
      assert.match(heard.join(), /api\.test/);
    });
});
