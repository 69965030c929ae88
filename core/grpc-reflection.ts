import { type Server, type ServiceDefinition, status } from '@grpc/grpc-js';
import {
  PROTO_FILES,
  type ProtoFile,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  type ServerReflectionServer,
  ServerReflectionService,
} from '#proto';
import { bidiStream, type Report } from './grpc.ts';

/**
 * gRPC server reflection (v1, and v1alpha, whose messages are the same) for the services named: tools such as grpcurl need no
 * proto of ours. It tells what the published protos say, and nothing of what is served through them.
 */
export function addReflection(server: Server, services: readonly string[], report: Report): void {
  const reflect = new Reflection([...services, V1]);
  const implementation: ServerReflectionServer = {
    serverReflectionInfo: bidiStream(
      'ServerReflectionInfo',
      async function* (requests) {
        for await (const request of requests) yield reflect.answer(request);
      },
      report,
    ),
  };
  server.addService(ServerReflectionService, implementation);
  server.addService(alpha(), implementation);
}

const V1 = 'grpc.reflection.v1.ServerReflection';

function alpha(): ServiceDefinition<ServerReflectionServer> {
  const { serverReflectionInfo } = ServerReflectionService;
  const path = serverReflectionInfo.path.replace('.v1.', '.v1alpha.');
  return { serverReflectionInfo: { ...serverReflectionInfo, path } };
}

/** Answers over the files of some services and all that these import. */
class Reflection {
  readonly #services: readonly string[];
  readonly #files = new Map<string, ProtoFile>();
  readonly #bySymbol = new Map<string, ProtoFile>();

  constructor(services: readonly string[]) {
    this.#services = services.toSorted();
    for (const file of PROTO_FILES)
      if (file.services.some((name) => services.includes(name))) this.#add(file);
  }

  answer(request: ServerReflectionRequest): ServerReflectionResponse {
    return {
      validHost: request.host,
      originalRequest: request,
      messageResponse: this.#respond(request.messageRequest),
    };
  }

  #respond(
    request: ServerReflectionRequest['messageRequest'],
  ): ServerReflectionResponse['messageResponse'] {
    if (!request) return failed(status.INVALID_ARGUMENT, 'the request asks for nothing');
    if (request.$case === 'listServices') {
      const service = this.#services.map((name) => ({ name }));
      return { $case: 'listServicesResponse', value: { service } };
    }
    if (request.$case === 'fileByFilename')
      return this.#descriptors(this.#files.get(request.value));
    if (request.$case === 'fileContainingSymbol')
      return this.#descriptors(this.#bySymbol.get(request.value.replace(/^\./, '')));
    if (request.$case === 'allExtensionNumbersOfType' && this.#bySymbol.has(request.value))
      return {
        $case: 'allExtensionNumbersResponse',
        value: { baseTypeName: request.value, extensionNumber: [] }, // proto3 messages have none
      };
    return NOT_FOUND;
  }

  #descriptors(file: ProtoFile | undefined): ServerReflectionResponse['messageResponse'] {
    if (!file) return NOT_FOUND;
    const fileDescriptorProto = this.#withImports(file).map(({ descriptor }) =>
      Buffer.from(descriptor, 'base64'),
    );
    return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  }

  #withImports(file: ProtoFile, seen = new Set<ProtoFile>()): ProtoFile[] {
    if (seen.has(file)) return [];
    seen.add(file);
    const imports = file.imports.flatMap((name) => this.#files.get(name) ?? []);
    return [file, ...imports.flatMap((one) => this.#withImports(one, seen))];
  }

  #add(file: ProtoFile): void {
    this.#files.set(file.name, file);
    for (const symbol of file.symbols) this.#bySymbol.set(symbol, file);
    for (const one of PROTO_FILES)
      if (file.imports.includes(one.name) && !this.#files.has(one.name)) this.#add(one);
  }
}

const NOT_FOUND = failed(status.NOT_FOUND, 'no such file or symbol');

function failed(errorCode: number, errorMessage: string) {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } } as const;
}
