import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { canonicalJson } from '#policies';
import { until } from '../../support/mesh.ts';
import {
  HOST,
  http2Through,
  type ProtocolPath,
  SECRET,
  startProtocolPath,
} from '../../support/protocol-path.ts';

const RULES = `
    - {id: grpc, hosts: [api.example.com], methods: [POST], paths: ["/test.Echo/**"], protocols: [grpc], limits: {concurrent: 60}}
    - {id: small, hosts: [api.example.com], methods: [POST], paths: ["/test.Small/**"], protocols: [grpc], limits: {requestBytes: 1KiB, responseBytes: 1KiB}}
    - {id: rated, hosts: [api.example.com], methods: [POST], paths: ["/test.Rated/**"], protocols: [grpc], limits: {rate: 1/h}}
    - {id: web, hosts: [api.example.com], methods: [GET, POST], paths: ["/test.Web/**"]}
    - {id: cred, hosts: [cred.example.com], methods: [POST], paths: any, protocols: [grpc], credential: token}
    - {id: plain, scheme: http, ports: [50051], hosts: [plain.example.com], methods: [POST], paths: ["/test.Echo/**"], protocols: [grpc]}
    - {id: nobody, scheme: http, ports: [50052], hosts: [plain.example.com], methods: [POST], paths: any, protocols: [grpc]}
`;

const bytes = { serialize: (value: Buffer) => value, deserialize: (value: Buffer) => value };
const method = (path: string, requestStream: boolean, responseStream: boolean) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: bytes.serialize,
  requestDeserialize: bytes.deserialize,
  responseSerialize: bytes.serialize,
  responseDeserialize: bytes.deserialize,
});
const serviceAt = (name: string) =>
  ({
    unary: method(`/${name}/Unary`, false, false),
    down: method(`/${name}/Down`, false, true),
    up: method(`/${name}/Up`, true, false),
    both: method(`/${name}/Both`, true, true),
  }) satisfies ServiceDefinition;

let built: ProtocolPath;
/** What the host saw. */
const seen = { calls: 0, metadata: new Metadata(), cancelled: 0, streams: [] as Both[] };
type Both = ServerDuplexStream<Buffer, Buffer>;

const echo = {
  unary(
    call: ServerUnaryCall<Buffer, Buffer>,
    callback: (error: Partial<ServiceError> | null, value?: Buffer, trailers?: Metadata) => void,
  ) {
    seen.calls += 1;
    seen.metadata = call.metadata;
    const text = call.request.toString();
    const trailers = new Metadata();
    trailers.add('x-sum', '42');
    trailers.add('x-bin-bin', Buffer.from([0, 1, 255]));
    if (text === 'fail')
      callback({ code: status.FAILED_PRECONDITION, details: 'näe 100 %', metadata: trailers });
    else if (text === 'secret') {
      const [said = ''] = call.metadata.get('authorization');
      trailers.add('x-echo', said);
      callback(null, Buffer.from(said), trailers);
    } else callback(null, Buffer.from(`echo ${text}`), trailers);
  },
  down(call: ServerWritableStream<Buffer, Buffer>) {
    for (let at = 0; at < Number(call.request.toString()); at += 1)
      call.write(Buffer.alloc(1_000, at));
    call.end();
  },
  up(call: ServerReadableStream<Buffer, Buffer>, callback: (error: null, value: Buffer) => void) {
    let size = 0;
    call.on('data', (chunk: Buffer) => (size += chunk.length));
    call.on('end', () => callback(null, Buffer.from(String(size))));
    call.on('cancelled', () => (seen.cancelled += 1));
  },
  both(call: Both) {
    seen.streams.push(call);
    call.on('data', (chunk: Buffer) => call.write(Buffer.from(`echo ${chunk.toString()}`)));
    call.on('end', () => call.end());
    call.on('cancelled', () => (seen.cancelled += 1));
  },
};

const servers: Server[] = [];
const clients: Client[] = [];

before(async () => {
  built = await startProtocolPath(RULES);
  const { cert, key } = built.certificate;
  const tls = ServerCredentials.createSsl(null, [
    { cert_chain: Buffer.from(cert), private_key: Buffer.from(key) },
  ]);
  for (const [port, secure] of [
    [443, tls],
    [50051, ServerCredentials.createInsecure()],
  ] as const) {
    const server = new Server();
    for (const name of ['test.Echo', 'test.Small', 'test.Rated', 'test.Web'])
      server.addService(serviceAt(name), echo);
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`${HOST}:${port}`, secure, (error) => (error ? reject(error) : resolve())),
    );
    servers.push(server);
  }
  // What a program in a sandbox is given; grpc-js reads it when a channel is made.
  process.env['grpc_proxy'] = `http://127.0.0.1:${built.doorPort}`;
});
after(async () => {
  for (const client of clients) client.close();
  for (const server of servers) server.forceShutdown();
  await built?.stop();
});

/** An ordinary client of grpc-js, with the proxy and the CA that a program in a sandbox has. */
function clientOf(authority: string, name = 'test.Echo', secure?: ChannelCredentials): Client {
  const Made = makeGenericClientConstructor(serviceAt(name), name);
  const trusted = secure ?? credentials.createSsl(Buffer.from(built.opened.ca));
  const client = new Made(authority, trusted, { 'grpc.enable_retries': 0 });
  clients.push(client);
  return client;
}

interface Answered {
  readonly text: string;
  readonly code: number;
  readonly details: string;
  readonly trailers: Metadata;
}

function unary(client: Client, text: string, name = 'test.Echo'): Promise<Answered> {
  return new Promise((resolve) => {
    const sent = { text: '' };
    client
      .makeUnaryRequest(
        `/${name}/Unary`,
        bytes.serialize,
        bytes.deserialize,
        Buffer.from(text),
        new Metadata(),
        (_error, value) => {
          sent.text = value?.toString() ?? '';
        },
      )
      .on('status', ({ code, details, metadata }) =>
        // The callback runs before or after, in the same turn.
        setImmediate(() => resolve({ text: sent.text, code, details, trailers: metadata })),
      );
  });
}

const bothOf = (client: Client): ClientDuplexStream<Buffer, Buffer> =>
  client.makeBidiStreamRequest('/test.Echo/Both', bytes.serialize, bytes.deserialize);

for (const [authority, secure] of [
  ['api.example.com:443', undefined],
  ['plain.example.com:50051', credentials.createInsecure()],
] as const) {
  test(`E2: ${authority}: unary, with the status and trailers of the host unchanged`, async () => {
    const client = clientOf(authority, 'test.Echo', secure);
    const good = await unary(client, 'hello');
    assert.deepEqual([good.code, good.text, good.details], [status.OK, 'echo hello', 'OK']);
    assert.deepEqual(good.trailers.get('x-sum'), ['42']);
    assert.deepEqual(good.trailers.get('x-bin-bin'), [Buffer.from([0, 1, 255])]);
    assert.deepEqual(seen.metadata.get('proxy-authorization'), []);
    const bad = await unary(client, 'fail');
    assert.deepEqual([bad.code, bad.details], [status.FAILED_PRECONDITION, 'näe 100 %']);
    assert.deepEqual(bad.trailers.get('x-sum'), ['42']);
  });

  test(`${authority}: the host's stream, the program's, and both at once message by message`, async () => {
    const client = clientOf(authority, 'test.Echo', secure);
    const down = client.makeServerStreamRequest(
      '/test.Echo/Down',
      bytes.serialize,
      bytes.deserialize,
      Buffer.from('500'),
    );
    let size = 0;
    for await (const chunk of down) size += Buffer.from(chunk).length;
    assert.equal(size, 500_000);

    const summed = await new Promise<string>((resolve, reject) => {
      const up = client.makeClientStreamRequest(
        '/test.Echo/Up',
        bytes.serialize,
        bytes.deserialize,
        (error: ServiceError | null, value?: Buffer) =>
          error ? reject(error) : resolve(value?.toString() ?? ''),
      );
      for (let at = 0; at < 500; at += 1) up.write(Buffer.alloc(1_000));
      up.end();
    });
    assert.equal(summed, '500000');

    const both = bothOf(client);
    const heard: string[] = [];
    both.on('data', (chunk: Buffer) => heard.push(chunk.toString()));
    for (const word of ['one', 'two', 'three']) {
      both.write(Buffer.from(word));
      await until(`the answer to ${word}`, () => heard.at(-1) === `echo ${word}`);
    }
    seen.streams.at(-1)?.write(Buffer.from('unasked'));
    await until('the host speaks unasked', () => heard.at(-1) === 'unasked');
    const ended = new Promise<number>((resolve) =>
      both.once('status', ({ code }) => resolve(code)),
    );
    both.end();
    assert.equal(await ended, status.OK);
  });

  test(`${authority}: a call that the program cancels is cancelled at the host, and one that the host gives up at the program`, async () => {
    const client = clientOf(authority, 'test.Echo', secure);
    const both = bothOf(client);
    both.on('error', () => {});
    both.write(Buffer.from('x'));
    await new Promise((resolve) => both.once('data', resolve));
    const earlier = seen.cancelled;
    both.cancel();
    await until('the host hears of it', () => seen.cancelled === earlier + 1);

    const other = bothOf(client);
    const failed = new Promise<ServiceError>((resolve) => other.once('error', resolve));
    other.write(Buffer.from('x'));
    await new Promise((resolve) => other.once('data', resolve));
    seen.streams.at(-1)?.emit('error', { code: status.ABORTED, details: 'given up' });
    const { code, details } = await failed;
    assert.deepEqual([code, details], [status.ABORTED, 'given up']);
    assert.equal((await unary(client, 'after')).text, 'echo after', 'the connection goes on');
  });
}

const DENIED: readonly (readonly [
  what: string,
  authority: string,
  name: string,
  code: number,
  reason: string,
])[] = [
  [
    'another service',
    'api.example.com:443',
    'test.Other',
    status.PERMISSION_DENIED,
    'path_not_allowed',
  ],
  [
    'a rule without gRPC',
    'api.example.com:443',
    'test.Web',
    status.PERMISSION_DENIED,
    'protocol_not_allowed',
  ],
];
for (const [what, authority, name, code, reason] of DENIED)
  test(`${what} is refused with a status of gRPC that says why, and nothing reaches the host`, async () => {
    const earlier = seen.calls;
    const { code: got, details, trailers } = await unary(clientOf(authority, name), 'x', name);
    assert.equal(got, code, details);
    assert.match(details, new RegExp(reason));
    assert.deepEqual(trailers.get('x-outrider-reason'), [reason]);
    assert.equal(seen.calls, earlier);
  });

test('E6: limits of a rule are statuses of gRPC: rate, bytes of the call, bytes of the answer', async () => {
  const rated = clientOf('api.example.com:443', 'test.Rated');
  assert.equal((await unary(rated, 'x', 'test.Rated')).code, status.OK);
  const second = await unary(rated, 'x', 'test.Rated');
  assert.deepEqual(
    [second.code, second.trailers.get('x-outrider-reason')],
    [status.RESOURCE_EXHAUSTED, ['rate_limited']],
  );
  const small = clientOf('api.example.com:443', 'test.Small');
  const large = await unary(small, 'x'.repeat(5_000), 'test.Small');
  assert.notEqual(large.code, status.OK);
  const down = small.makeServerStreamRequest(
    '/test.Small/Down',
    bytes.serialize,
    bytes.deserialize,
    Buffer.from('50'),
  );
  let size = 0;
  const failed = new Promise<ServiceError>((resolve) => down.once('error', resolve));
  down.on('data', (chunk: Buffer) => (size += chunk.length));
  assert.equal((await failed).code, status.RESOURCE_EXHAUSTED);
  assert.ok(size <= 1_024, `${size} bytes came`);
});

test('the credential goes in once, and neither comes back nor holds a message up', async () => {
  const client = clientOf('cred.example.com:443');
  const { text, code, details, trailers } = await unary(client, 'secret');
  assert.equal(code, status.OK, details);
  const covered = `Bearer ${'*'.repeat(SECRET.length)}`;
  assert.equal(text, covered);
  assert.deepEqual(trailers.get('x-echo'), [covered]);
  await until('the alert', () => built.path.returnedSecrets().length === 1);
  const places = () => built.path.returnedSecrets().map(({ detail }) => detail);
  assert.deepEqual(places(), ['the credential came back in 2 places, covered']);
  assert.deepEqual(seen.metadata.get('authorization'), [`Bearer ${SECRET}`]);
  const both = bothOf(client);
  const heard: string[] = [];
  both.on('data', (chunk: Buffer) => heard.push(chunk.toString()));
  both.write(Buffer.from(SECRET.slice(0, 4)));
  await until('a message that ends as the secret begins', () => heard.length === 1);
  assert.equal(heard[0], `echo ${SECRET.slice(0, 4)}`);
  both.write(Buffer.from(SECRET));
  await until('the secret as a message', () => heard.length === 2);
  assert.equal(heard[1], `echo ${'*'.repeat(SECRET.length)}`);
  both.on('error', () => {}).cancel();
  await until('the alert of a call that was cancelled', () => places().length === 2);
});

test('a host that is not there is UNAVAILABLE', async () => {
  const client = clientOf('plain.example.com:50052', 'test.Echo', credentials.createInsecure());
  const { code, trailers } = await unary(client, 'x');
  assert.equal(code, status.UNAVAILABLE);
  assert.deepEqual(trailers.get('x-outrider-error'), ['UPSTREAM_UNREACHABLE']);
});

test('fifty calls at once over one connection of the program are fifty records of each side', async () => {
  const client = clientOf('api.example.com:443');
  const earlier = built.path.requests().length;
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, at) => unary(client, String(at))),
  );
  for (const [at, { text }] of answers.entries()) assert.equal(text, `echo ${at}`);
  await until('the records', () => built.path.requests().length === earlier + 50);
  const last = built.path.requests().slice(earlier);
  assert.ok(last.every((record) => record['verdict'] === 'allow' && record['rule'] === 'grpc'));
  await until('those of the sidecar', () =>
    last.every((one) =>
      built.path.delivered().some(({ egressId }) => egressId === one['egressId']),
    ),
  );
});

test('E2: an extended CONNECT over HTTP/2, for a WebSocket there, is refused', async () => {
  const session = await http2Through(built, 'api.example.com');
  await new Promise((resolve) => session.once('remoteSettings', resolve));
  assert.notEqual(session.remoteSettings.enableConnectProtocol, true, 'it is not offered');
  const stream = session.request([':method', 'CONNECT', ':authority', 'api.example.com:443']);
  stream.on('error', () => {});
  const answer = await new Promise<number>((resolve) => {
    stream.once('response', (head) => resolve(Number(head[':status'])));
    stream.once('close', () => resolve(stream.rstCode ?? 0));
  });
  assert.equal(answer, 405);
  session.destroy();
});

test('E9: a policy that no longer allows it ends a call, as denied', async () => {
  const client = clientOf('api.example.com:443');
  const both = bothOf(client);
  const failed = new Promise<ServiceError>((resolve) => both.once('error', resolve));
  both.write(Buffer.from('x'));
  await new Promise((resolve) => both.once('data', resolve));
  const earlier = seen.cancelled;
  await built.opened.ask({
    $case: 'tighten',
    value: {
      execId: built.opened.execId,
      policy: Buffer.from(canonicalJson(built.path.projection('tester', ['grpc']))),
      policyDigest: 'e'.repeat(64),
      policyCommit: '',
      policySerial: 0n,
    },
  });
  assert.equal((await failed).code, status.PERMISSION_DENIED);
  await until('the host hears of it', () => seen.cancelled === earlier + 1);
});
