import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requestProtocol } from './interception.ts';

const HEADS = [
  [false, false, 'application/grpc', 'http1', 'gRPC needs HTTP/2'],
  [true, false, undefined, 'http2', 'HTTP/2'],
  [true, false, 'application/json', 'http2', 'any other type'],
  [true, false, 'application/grpc', 'grpc', 'its own type'],
  [true, false, ' Application/gRPC+proto', 'grpc', 'whatever its case'],
  [true, false, 'application/grpc;charset=utf-8', 'grpc', 'with parameters'],
  [true, false, 'application/grpc-web+proto', 'http2', 'gRPC-Web is an ordinary request'],
  [false, true, undefined, 'websocket', 'a WebSocket'],
] as const;
for (const [http2, websocket, contentType, protocol, why] of HEADS)
  test(`${why}: ${protocol}`, () =>
    assert.equal(requestProtocol({ http2, websocket, contentType }), protocol));
