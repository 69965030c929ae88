import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { credentials, Server, ServerCredentials, status } from '@grpc/grpc-js';
import {
  ServerReflectionClient,
  ServerReflectionRequest,
  ServerReflectionResponse,
  ServerReflectionService,
} from '#proto';
import { addReflection } from './grpc-reflection.ts';

const HEALTH = 'grpc.health.v1.Health';
const EXEC = 'outrider.runner.v1.ExecService';
type Ask = NonNullable<ServerReflectionRequest['messageRequest']>;

describe('D1: server reflection', () => {
  const server = new Server();
  let client: ServerReflectionClient;
  before(async () => {
    addReflection(server, [HEALTH, EXEC], () => {});
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    client = new ServerReflectionClient(`127.0.0.1:${port}`, credentials.createInsecure());
  });
  after(() => {
    client.close();
    server.forceShutdown();
  });

  /** The answers to these requests, over one stream of the service at this path. */
  async function ask(requests: readonly (Ask | undefined)[], alpha = false) {
    const { path, requestSerialize, responseDeserialize } =
      ServerReflectionService.serverReflectionInfo;
    const stream = client.makeBidiStreamRequest(
      alpha ? path.replace('.v1.', '.v1alpha.') : path,
      requestSerialize,
      responseDeserialize,
    );
    const answers: ServerReflectionResponse['messageResponse'][] = [];
    stream.on('data', (one: ServerReflectionResponse) => answers.push(one.messageResponse));
    for (const messageRequest of requests) stream.write({ host: '', messageRequest });
    stream.end();
    await once(stream, 'end');
    return answers;
  }

  const filesOf = (answer: ServerReflectionResponse['messageResponse']): string[] => {
    assert.ok(answer?.$case === 'fileDescriptorResponse', answer?.$case);
    // A descriptor begins with its name, field 1.
    return answer.value.fileDescriptorProto.map((one) =>
      one.subarray(2, 2 + (one[1] ?? 0)).toString(),
    );
  };

  for (const [version, alpha] of [
    ['v1', false],
    ['v1alpha', true],
  ] as const)
    test(`${version} names the services and describes each with all that it imports, in order of the requests`, async () => {
      const [services, bySymbol, byName, byMethod] = await ask(
        [
          { $case: 'listServices', value: '' },
          { $case: 'fileContainingSymbol', value: EXEC },
          { $case: 'fileByFilename', value: 'outrider/runner/v1/sandbox.proto' },
          { $case: 'fileContainingSymbol', value: `${EXEC}.Run` },
        ],
        alpha,
      );
      assert.ok(services?.$case === 'listServicesResponse');
      assert.deepEqual(
        services.value.service.map(({ name }) => name),
        [HEALTH, 'grpc.reflection.v1.ServerReflection', EXEC],
      );
      const expected = [
        'outrider/runner/v1/exec.proto',
        'google/protobuf/duration.proto',
        'google/protobuf/timestamp.proto',
        'outrider/runner/v1/sandbox.proto',
      ];
      assert.deepEqual(filesOf(bySymbol), expected);
      assert.deepEqual(filesOf(byMethod), expected);
      assert.equal(filesOf(byName)[0], 'outrider/runner/v1/sandbox.proto');
    });

  test('messages, fields, enums and their values are found by their names', async () => {
    const names = [
      'outrider.runner.v1.ExecSpec',
      'outrider.runner.v1.ExecSpec.timeout',
      'outrider.runner.v1.KilledBy',
      'outrider.runner.v1.KILLED_BY_OOM',
      'grpc.health.v1.HealthCheckResponse.ServingStatus',
    ];
    for (const value of names) {
      const [answer] = await ask([{ $case: 'fileContainingSymbol', value }]);
      assert.ok(filesOf(answer).length > 0, value);
    }
  });

  const refused: readonly (readonly [string, Ask | undefined, number])[] = [
    ['an unknown symbol', { $case: 'fileContainingSymbol', value: 'a.B' }, status.NOT_FOUND],
    ['an unknown file', { $case: 'fileByFilename', value: 'a.proto' }, status.NOT_FOUND],
    [
      'a file of what is not served',
      { $case: 'fileByFilename', value: 'outrider/sidecar/v1/sidecar.proto' },
      status.NOT_FOUND,
    ],
    ['nothing', undefined, status.INVALID_ARGUMENT],
  ];
  for (const [what, request, code] of refused)
    test(`${what} is an error in the answer, and the stream goes on`, async () => {
      const [answer, next] = await ask([request, { $case: 'listServices', value: '' }]);
      assert.ok(answer?.$case === 'errorResponse');
      assert.equal(answer.value.errorCode, code);
      assert.equal(next?.$case, 'listServicesResponse');
    });
});
