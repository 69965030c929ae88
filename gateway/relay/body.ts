import { OutriderError } from '#core/errors';
import type { HttpRequest } from '#core/http-exchange';

/**
 * A request's whole body. MCP messages are small, and only a whole one can be sent a second time when a server could not be
 * reached; what is larger than `maxBytes` is refused as soon as that shows, whether its length was declared or not. At once where it is there.
 * @throws {OutriderError} BODY_TOO_LARGE | CANCELLED when the client went away
 */
export function readBody(request: HttpRequest, maxBytes: number): Buffer | Promise<Buffer> {
  const tooLarge = () =>
    new OutriderError('BODY_TOO_LARGE', `the message is larger than ${maxBytes} bytes`);
  const { whole } = request;
  if (whole) {
    if (whole.length > maxBytes) throw tooLarge();
    return whole;
  }
  return new Promise((resolve, reject) => {
    if (Number(request.headers['content-length'] ?? 0) > maxBytes) {
      reject(tooLarge());
      return;
    }
    const chunks: Buffer[] = [];
    let size = 0;
    // A request is heard once: to listen on costs less than to stop listening.
    let settled = false;
    const fail = (error: OutriderError) => {
      settled = true;
      chunks.length = 0;
      reject(error);
    };
    const take = (chunk: Buffer) => {
      if (settled) return;
      size += chunk.length;
      if (size > maxBytes) fail(tooLarge());
      else chunks.push(chunk);
    };
    const ended = () => {
      if (settled) return;
      settled = true;
      resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, size));
    };
    const gone = () => {
      if (!settled) fail(new OutriderError('CANCELLED', 'the client went away'));
    };
    request.on('data', take).on('end', ended).on('close', gone);
  });
}
