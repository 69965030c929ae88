import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Stands in for an S3 store whose one bucket is `data`, as far as copies go; it looks at no signature. */
export interface S3StandIn {
  readonly url: string;
  /** The modification time that rclone keeps with each object, by key. */
  readonly objects: Map<string, string>;
  readonly close: () => Promise<void>;
}

const MTIME = 'x-amz-meta-mtime';

/** Starts one that has these objects. Ceph's smallest store, which judges our signatures, answers copies and makes none. */
export async function startS3StandIn(given: Readonly<Record<string, string>>): Promise<S3StandIn> {
  const objects = new Map(Object.entries(given));
  const server = createServer((request, response) => {
    request.resume();
    const key = keyOf(request.url ?? '');
    if (request.method === 'PUT') {
      const mtime = copied(objects, request.headers);
      if (mtime !== undefined) objects.set(key, mtime);
      response.writeHead(mtime === undefined ? 400 : 200).end('<CopyObjectResult/>');
      return;
    }
    const mtime = objects.get(key);
    if (mtime === undefined) {
      response.writeHead(404).end();
      return;
    }
    const modified = new Date(0).toUTCString();
    const told = { 'content-length': 8, etag: '"e"', 'last-modified': modified, [MTIME]: mtime };
    response.writeHead(200, told);
    response.end(request.method === 'HEAD' ? undefined : 'outrider');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${port}`, objects, close };
}

function copied(
  objects: ReadonlyMap<string, string>,
  headers: IncomingHttpHeaders,
): string | undefined {
  const source = objects.get(keyOf(String(headers['x-amz-copy-source'])));
  const replaced = headers['x-amz-metadata-directive'] === 'REPLACE';
  return source !== undefined && replaced ? String(headers[MTIME]) : source;
}

function keyOf(url: string): string {
  return decodeURIComponent(/^\/data\/([^?]*)/.exec(url)?.[1] ?? '');
}
