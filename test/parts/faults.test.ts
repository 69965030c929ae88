import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdirSync, openSync, readSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { apiPolicies, startProxies } from '../support/proxies.ts';

// A disk that is slow, or hangs, as a process sees it: writing takes long, or does not return. A pipe does the same.

/** A proxy whose audit file is a pipe, and what has been read from that. */
async function piped(t: TestContext) {
  const seen = { requests: 0 };
  const origin = createServer((_request, response) => {
    seen.requests += 1;
    response.end('hello');
  });
  t.after(() => {
    origin.closeAllConnections();
    origin.close();
  });
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const address = origin.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const pipe = { path: '', fd: -1, text: '' };
  const proxies = await startProxies({
    count: 1,
    policies: apiPolicies(port),
    config: { limits: { datasource: 'none' } },
    prepare(state) {
      const directory = join(state, 'audit');
      mkdirSync(directory, { mode: 0o700 });
      pipe.path = join(directory, 'proxy.jsonl');
      execFileSync('mkfifo', ['-m', '600', pipe.path]);
      pipe.fd = openSync(pipe.path, constants.O_RDWR | constants.O_NONBLOCK);
    },
  });
  t.after(async () => {
    await proxies.stop();
    closeSync(pipe.fd);
  });
  const [one] = proxies.each;
  if (!one) throw new Error('no proxy');
  const token = await proxies.token();
  /** Reads what there is, `bytes` at most. Returns how much that was. */
  const read = (bytes: number): number => {
    const buffer = Buffer.alloc(bytes);
    try {
      const count = readSync(pipe.fd, buffer);
      pipe.text += buffer.toString('latin1', 0, count);
      return count;
    } catch {
      return 0; // nothing there
    }
  };
  const records = () => pipe.text.split('\n').filter((line) => line.includes('"event":"request"'));
  return { seen, one, ask: () => one.ask('/http/api/x', token), read, records };
}

/** Reads so many bytes each 5 ms, until it is told to stop. */
function keepReading(read: (bytes: number) => number, bytes: number): () => void {
  const timer = setInterval(() => read(bytes), 5);
  return () => clearInterval(timer);
}

test('fault: audit disk slow: requests are as slow as it is, and every one has its record', async (t) => {
  const { ask, read, records } = await piped(t);
  const stop = keepReading(read, 2_048);
  for (let at = 0; at < 200; at++) assert.equal((await ask()).status, 200);
  stop();
  while (read(65_536) > 0);
  assert.equal(records().length, 200);
});

test('fault: audit disk half-open: nothing goes out that could not be recorded, and liveness fails; it goes on when the disk does', async (t) => {
  const { seen, one, ask, read, records } = await piped(t);
  const answers: Promise<number>[] = [];
  const within = (call: Promise<unknown>, ms: number) =>
    Promise.race([call.then(() => true), sleep(ms).then(() => false)]);
  for (let asked = 0; asked < 1_000; asked++) {
    const answer = ask().then(({ status }) => status);
    answers.push(answer);
    if (!(await within(answer, 3_000))) break;
  }
  assert.ok(answers.length < 1_000, 'it hangs at last');
  const before = seen.requests;
  for (let more = 0; more < 5; more++) answers.push(ask().then(({ status }) => status));
  const live = fetch(`http://127.0.0.1:${one.adminPort}/livez`);
  live.catch(() => {});
  assert.equal(await within(live, 1_000), false, '/livez does not answer');
  assert.equal(seen.requests, before, 'nothing more goes out');
  const stop = keepReading(read, 65_536);
  const statuses = await Promise.all(answers);
  stop();
  while (read(65_536) > 0);
  assert.ok(statuses.every((status) => status === 200));
  assert.equal(records().length, answers.length);
});
