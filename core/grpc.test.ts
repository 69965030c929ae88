import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import {
  Client,
  credentials,
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { OutriderError } from './errors.ts';
import {
  bidiStream,
  type CallContext,
  clientStream,
  fromServiceError,
  isErrorCode,
  serverStream,
  unary,
  unimplemented,
} from './grpc.ts';

type Json = string | number | { [key: string]: Json };

/** A method of any kind whose messages are JSON. */
function method(name: string, requestStream: boolean, responseStream: boolean) {
  const write = (value: Json) => Buffer.from(JSON.stringify(value));
  const read = (bytes: Buffer): Json => JSON.parse(bytes.toString('utf8'));
  return {
    path: `/test/${name}`,
    requestStream,
    responseStream,
    requestSerialize: write,
    requestDeserialize: read,
    responseSerialize: write,
    responseDeserialize: read,
  } satisfies MethodDefinition<Json, Json>;
}

const METHODS = {
  one: method('one', false, false),
  down: method('down', false, true),
  up: method('up', true, false),
  both: method('both', true, true),
};

interface Handlers {
  one?: (request: Json, context: CallContext) => Promise<Json>;
  down?: (request: Json, context: CallContext) => AsyncIterable<Json>;
  up?: (requests: AsyncIterable<Json>, context: CallContext) => Promise<Json>;
  both?: (requests: AsyncIterable<Json>, context: CallContext) => AsyncIterable<Json>;
}

const absent = () => unimplemented('It');

/** A real server and client over a port of 127.0.0.1, and what was reported. */
async function serve(t: TestContext, handlers: Handlers) {
  const reported: { method: string; code: string }[] = [];
  const report = (name: string, { code }: OutriderError) =>
    void reported.push({ method: name, code });
  const server = new Server();
  server.addService(METHODS, {
    one: unary('one', handlers.one ?? absent, report),
    down: serverStream('down', handlers.down ?? absent, report),
    up: clientStream('up', handlers.up ?? absent, report),
    both: bidiStream('both', handlers.both ?? absent, report),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  t.after(() => {
    client.close();
    server.forceShutdown();
  });
  const one = (request: Json, metadata = new Metadata(), options = {}) =>
    new Promise<Json | undefined>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = METHODS.one;
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        options,
        (error, value) => (error ? reject(error) : resolve(value)),
      );
    });
  const { path: downPath, requestSerialize: write, responseDeserialize: read } = METHODS.down;
  return {
    reported,
    client,
    one,
    down: (request: Json, options = {}) =>
      client.makeServerStreamRequest(downPath, write, read, request, options),
    both: () => client.makeBidiStreamRequest(METHODS.both.path, write, read),
    up: (done: (error: ServiceError | null, value?: Json) => void) =>
      client.makeClientStreamRequest(METHODS.up.path, write, read, done),
  };
}

async function failure(run: Promise<unknown>): Promise<ServiceError> {
  try {
    await run;
  } catch (error) {
    assert.ok(error instanceof Error && 'metadata' in error);
    return error as ServiceError;
  }
  throw new Error('the call succeeded');
}

/** Everything that a stream gives, and how it ended. */
async function drain(
  stream: AsyncIterable<Json>,
): Promise<{ items: Json[]; error?: ServiceError }> {
  const items: Json[] = [];
  try {
    for await (const item of stream) items.push(item);
    return { items };
  } catch (error) {
    return { items, error: error as ServiceError };
  }
}

const trailer = (error: ServiceError | undefined, name: string) => error?.metadata.get(name)[0];
const until = async (condition: () => boolean): Promise<void> => {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'it did not come about');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

describe('a call that works', () => {
  test('of each kind carries its messages in order', async (t) => {
    const rig = await serve(t, {
      one: async (request) => ({ echo: request }),
      down: async function* (request) {
        for (let item = 0; item < Number(request); item++) yield item;
      },
      up: async (requests) => {
        let sum = 0;
        for await (const item of requests) sum += Number(item);
        return sum;
      },
      both: async function* (requests) {
        for await (const item of requests) yield { echo: item };
        yield 'end';
      },
    });
    assert.deepEqual(await rig.one('x'), { echo: 'x' });
    assert.deepEqual((await drain(rig.down(3))).items, [0, 1, 2]);
    const sum = await new Promise((resolve, reject) => {
      const call = rig.up((error, value) => (error ? reject(error) : resolve(value)));
      for (const item of [1, 2, 3]) call.write(item);
      call.end();
    });
    assert.equal(sum, 6);
    const both = rig.both();
    both.write('a');
    both.write('b');
    both.end();
    assert.deepEqual((await drain(both)).items, [{ echo: 'a' }, { echo: 'b' }, 'end']);
    assert.deepEqual(rig.reported, []);
  });

  test('learns its request id, its bearer token and its deadline', async (t) => {
    const seen: CallContext[] = [];
    const { one } = await serve(t, {
      one: async (_, context) => {
        seen.push(context);
        return 'done';
      },
    });
    const metadata = (values: Record<string, string>) => {
      const made = new Metadata();
      for (const [name, value] of Object.entries(values)) made.set(name, value);
      return made;
    };
    const deadline = Date.now() + 600_000;
    await one('go', metadata({ 'x-request-id': 'r-1', authorization: 'Bearer abc' }), { deadline });
    await one('go', metadata({ 'x-request-id': 'two words' }));
    for (const odd of ['abc', 'Basic abc', 'Bearer', 'Bearer a b'])
      await one('go', metadata({ authorization: odd }));
    assert.equal(seen[0]?.requestId, 'r-1');
    assert.match(seen[1]?.requestId ?? '', /^req-[a-z2-7]{26}$/);
    assert.deepEqual(
      seen.map((context) => context.bearer),
      ['abc', undefined, '', '', '', ''],
    );
    assert.ok(Math.abs((seen[0]?.deadline ?? 0) - deadline) < 60_000); // what is left travels, not the moment
    assert.equal(seen[1]?.deadline, Infinity);
  });
});

describe('a call that fails', () => {
  const slow = new OutriderError('QUOTA_EXCEEDED', 'too many', {
    cause: new Error('secret'),
    retryAfterMs: 12.5,
  });
  const failing: Handlers = {
    one: async () => Promise.reject(slow),
    down: async function* () {
      yield 'first';
      throw slow;
    },
    up: async () => Promise.reject(slow),
    both: async function* () {
      yield 'first';
      throw slow;
    },
  };

  test('of each kind has status, message, code, request id and the time to wait, and is reported once', async (t) => {
    const rig = await serve(t, failing);
    const outcomes: [string, ServiceError | undefined][] = [
      ['one', await failure(rig.one('go'))],
      ['down', (await drain(rig.down('go'))).error],
      ['up', (await new Promise<ServiceError | null>((done) => void rig.up(done))) ?? undefined],
      ['both', (await drain(rig.both())).error],
    ];
    for (const [kind, error] of outcomes) {
      assert.equal(error?.code, status.RESOURCE_EXHAUSTED, kind);
      assert.equal(error.details, 'too many');
      assert.equal(trailer(error, 'outrider-error-code'), 'QUOTA_EXCEEDED');
      assert.equal(trailer(error, 'retry-after-ms'), '13');
      assert.match(String(trailer(error, 'x-request-id')), /^req-/);
      assert.doesNotMatch(JSON.stringify([error.message, error.metadata.toJSON()]), /secret/);
    }
    assert.deepEqual(
      rig.reported,
      outcomes.map(([kind]) => ({ method: kind, code: 'QUOTA_EXCEEDED' })),
    );
  });

  test('with something that is not ours is INTERNAL, and says nothing of it', async (t) => {
    const { one } = await serve(t, { one: async () => Promise.reject(new Error('secret')) });
    const error = await failure(one('go'));
    assert.equal(error.code, status.INTERNAL);
    assert.equal(error.details, 'internal error');
  });

  test('also where the handler throws before it returns anything: the server lives on', async (t) => {
    const { down, both, reported } = await serve(t, {});
    for (const { error } of [await drain(down('go')), await drain(both())]) {
      assert.equal(error?.code, status.UNIMPLEMENTED);
      assert.equal(trailer(error, 'outrider-error-code'), 'UNIMPLEMENTED');
    }
    assert.deepEqual(
      reported.map(({ code }) => code),
      ['UNIMPLEMENTED', 'UNIMPLEMENTED'],
    );
  });

  test('after some responses delivers those first', async (t) => {
    const { down } = await serve(t, failing);
    assert.deepEqual((await drain(down('go'))).items, ['first']);
  });
});

describe('a caller that goes away', () => {
  test('aborts the signal of a unary call, by cancelling and by its deadline', async (t) => {
    let [begun, aborted] = [0, 0];
    const { one, client } = await serve(t, {
      one: async (_, { signal }) => {
        begun += 1;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        aborted += 1;
        return 'done';
      },
    });
    const { path, requestSerialize, responseDeserialize } = METHODS.one;
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      'go',
      () => {},
    );
    await until(() => begun === 1);
    call.cancel();
    await until(() => aborted === 1);
    const error = await failure(one('go', new Metadata(), { deadline: Date.now() + 2_000 }));
    assert.equal(error.code, status.DEADLINE_EXCEEDED);
    await until(() => aborted === 2);
  });

  test('ends a stream both ways: its signal is aborted and its handler is ended', async (t) => {
    let [aborted, ended] = [false, false];
    const { both } = await serve(t, {
      both: async function* (_, { signal }) {
        signal.addEventListener('abort', () => {
          aborted = true;
        });
        try {
          for (let item = 0; ; item++) {
            yield item;
            await new Promise((resolve) => setTimeout(resolve, 2));
          }
        } finally {
          ended = true;
        }
      },
    });
    const call = both();
    call.on('error', () => {});
    call.once('data', () => call.cancel());
    await until(() => aborted && ended);
  });

  test('is an error to whoever takes the requests, never their end', async (t) => {
    const ends: string[] = [];
    let last: Json = 'none';
    const take = async (requests: AsyncIterable<Json>): Promise<Json> => {
      try {
        for await (const item of requests) last = item;
        ends.push(`whole: ${JSON.stringify(last)}`);
      } catch (error) {
        ends.push(error instanceof OutriderError ? error.code : 'broken');
      }
      return 'done';
    };
    const { up, both } = await serve(t, {
      up: take,
      both: async function* (requests) {
        yield await take(requests);
      },
    });
    for (const open of [() => up(() => {}), () => both()]) {
      const cancelled = open();
      cancelled.on('error', () => {});
      cancelled.write('half');
      await until(() => last === 'half'); // one that is cancelled before it is there never begins
      cancelled.cancel();
      await until(() => ends.length === 1);
      assert.deepEqual(ends.splice(0), ['CANCELLED']);
      const whole = open();
      whole.on('error', () => {});
      whole.write('all');
      whole.end();
      await until(() => ends.length === 1);
      assert.deepEqual(ends.splice(0), ['whole: "all"']);
    }
  });
});

test('a reader that stops is waited for: no more is produced than fits the buffers', async (t) => {
  const piece = 'x'.repeat(65_536);
  let produced = 0;
  const { down } = await serve(t, {
    down: async function* () {
      for (; produced < 300; produced++) yield piece;
    },
  });
  const call = down('go');
  await new Promise((resolve) => call.once('data', resolve));
  call.pause();
  let before = -1;
  while (produced !== before) {
    before = produced;
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  assert.ok(produced < 150, `${produced} pieces of 64 KiB`);
  const rest = await drain(call);
  assert.equal(rest.items.length, 299);
});

describe('an error of another part, back in our terms', () => {
  const sent = (
    code: status,
    trailers: Record<string, string> = {},
    details = 'said',
  ): ServiceError => {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(trailers)) metadata.set(name, value);
    return Object.assign(new Error('wire'), { code, details, metadata });
  };
  const cases: readonly (readonly [string, ServiceError, string])[] = [
    [
      'a code of ours',
      sent(status.NOT_FOUND, { 'outrider-error-code': 'EXEC_NOT_FOUND' }),
      'EXEC_NOT_FOUND',
    ],
    [
      'a code that is not ours',
      sent(status.NOT_FOUND, { 'outrider-error-code': 'toString' }),
      'UPSTREAM_UNREACHABLE',
    ],
    ['cancelled', sent(status.CANCELLED), 'CANCELLED'],
    ['too late', sent(status.DEADLINE_EXCEEDED), 'DEADLINE_EXCEEDED'],
    ['not there', sent(status.UNIMPLEMENTED), 'UNIMPLEMENTED'],
    ['too large', sent(status.RESOURCE_EXHAUSTED), 'BODY_TOO_LARGE'],
    ['lost during the call', sent(status.UNAVAILABLE, {}, 'Connection dropped'), 'UPSTREAM_LOST'],
    [
      'never connected',
      sent(status.UNAVAILABLE, {}, 'No connection established. Last error: connect ENOENT'),
      'UPSTREAM_UNREACHABLE',
    ],
  ];
  for (const [what, error, code] of cases)
    test(`${what} is ${code}`, () => {
      assert.equal(fromServiceError(error).code, code);
      assert.equal(fromServiceError(error).cause, error);
    });

  test('with the time to wait where it was sent, and with its message where the code was', () => {
    const error = fromServiceError(
      sent(status.ABORTED, { 'outrider-error-code': 'SESSION_BUSY', 'retry-after-ms': '40' }),
    );
    assert.deepEqual([error.message, error.retryAfterMs], ['said', 40]);
    assert.equal(fromServiceError(sent(status.UNAVAILABLE)).retryAfterMs, undefined);
  });

  test('anything else is INTERNAL, and an error of ours is itself', () => {
    const ours = new OutriderError('NOT_FOUND', 'x');
    assert.equal(fromServiceError(ours), ours);
    assert.equal(fromServiceError(new Error('x')).code, 'INTERNAL');
  });

  test('only the codes of the table are codes', () => {
    assert.equal(isErrorCode('NOT_FOUND'), true);
    for (const text of ['', 'constructor', 'not_found', '__proto__'])
      assert.equal(isErrorCode(text), false);
  });
});
