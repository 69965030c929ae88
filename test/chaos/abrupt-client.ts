import { once } from 'node:events';
import { connect as connectHttp2, constants } from 'node:http2';
import { connect } from 'node:net';
import { ExecRequest, ExecResponse, type ExecSpec } from '#proto';

export interface AbruptExec {
  /** Resolves to the exec's id once it has started; undefined where it was refused, or the connection ended before. */
  readonly started: Promise<string | undefined>;
  /** Cuts the connection with nothing said, as the kernel does for a process that was killed. */
  readonly vanish: () => void;
}

/** A client that can die: one Exec call on a connection of its own, framed by hand, because gRPC's clients say good-bye. */
export async function startAbruptly(socketPath: string, spec: ExecSpec): Promise<AbruptExec> {
  const socket = connect(socketPath);
  socket.on('error', () => {});
  await once(socket, 'connect');
  const session = connectHttp2('http://localhost', { createConnection: () => socket });
  session.on('error', () => {});
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: 'POST',
    [constants.HTTP2_HEADER_PATH]: '/outrider.runner.v1.ExecService/Exec',
    [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
    [constants.HTTP2_HEADER_TE]: 'trailers',
  });
  stream.on('error', () => {});
  stream.write(framed(ExecRequest.encode({ request: { $case: 'start', value: spec } }).finish()));
  let text = Buffer.alloc(0);
  const started = new Promise<string | undefined>((resolve) => {
    stream.on('data', (chunk: Buffer) => {
      if (text.length < 2 ** 20) text = Buffer.concat([text, chunk]);
      const first = firstMessage(text);
      if (first) resolve(startedId(first));
    });
    stream.on('end', () => resolve(undefined)); // it was refused
    stream.on('close', () => resolve(undefined));
    socket.on('close', () => resolve(undefined));
  });
  return { started, vanish: () => void socket.destroy() };
}

/** gRPC over HTTP/2: one byte for compression, four for the length, the message. */
function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function firstMessage(text: Buffer): Buffer | undefined {
  if (text.length < 5) return undefined;
  const length = text.readUInt32BE(1);
  return text.length < 5 + length ? undefined : text.subarray(5, 5 + length);
}

function startedId(message: Buffer): string | undefined {
  const { response } = ExecResponse.decode(message);
  return response?.$case === 'started' ? response.value.execId : undefined;
}
