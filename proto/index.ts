/** The generated contracts. Generated messages stop at each part's transport layer. */

export { PROTO_FILES, type ProtoFile } from './gen/descriptors.ts';
export type { Duration } from './gen/google/protobuf/duration.ts';
export * from './gen/grpc/health/v1/health.ts';
export * from './gen/grpc/reflection/v1/reflection.ts';
export * from './gen/outrider/runner/v1/exec.ts';
export * from './gen/outrider/runner/v1/file.ts';
export * from './gen/outrider/runner/v1/revocation.ts';
export * from './gen/outrider/runner/v1/sandbox.ts';
export * from './gen/outrider/sidecar/v1/sidecar.ts';
