import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { sigv4 } from '#proxy';
import { analystPolicies, loopbackDatasource } from '../../test/support/policies.ts';
import { startProxies } from '../../test/support/proxies.ts';
import type { Group } from '../group.ts';
import { rssMib } from '../measure.ts';
import { builtCommand } from './one.ts';
import { CLIENT_CORE } from './wrk.ts';

const GIB = 2 ** 30;
const OBJECT_BYTES = 5 * GIB;
/** Until the heap has the size that it keeps: what comes after it is growth. */
const WARM_BYTES = GIB;
const CHUNK = Buffer.alloc(65_536, 'outrider rides ');
const PLACEHOLDER = 'OUTRIDER';

/**
 * One PUT of 5 GiB through the proxy on one core: in chunks that the program has signed, each verified and signed anew, and the same bytes
 * through the datasource `http/pipe`, which signs nothing. The growth is that of the largest resident set seen during the signed one
 * over the one after a PUT of 1 GiB.
 */
export const s3: Group = {
  figures: ['s3_put_mb_s', 'unsigned_pipe_mb_s', 's3_rss_growth_mib'],
  async measure() {
    // The client and the sink are this process: the proxy has its core to itself.
    execFileSync('taskset', ['-apc', `${CLIENT_CORE}`, `${process.pid}`], { stdio: 'ignore' });
    const sink = await startSink();
    const proxies = await startProxies({
      count: 1,
      policies: policies(sink.port),
      env: { BENCH_S3: 'AKIABENCHBENCH:bench/secret+of+s3' },
      command: builtCommand(),
    });
    try {
      const [proxy] = proxies.each;
      if (!proxy) throw new Error('no proxy');
      const rss = (): number => rssMib(readFileSync(`/proc/${proxy.pid}/status`, 'utf8'));
      const put = async (kind: 'signed' | 'plain', bytes: number): Promise<number> => {
        const from = performance.now();
        await upload(proxy.port, await proxies.token(), kind, bytes);
        return bytes / 1e6 / ((performance.now() - from) / 1_000);
      };
      await put('plain', WARM_BYTES);
      const pipe = await put('plain', OBJECT_BYTES);
      await put('signed', WARM_BYTES);
      const before = rss();
      let most = before;
      const sampling = setInterval(() => {
        most = Math.max(most, rss());
      }, 50);
      const signed = await put('signed', OBJECT_BYTES);
      clearInterval(sampling);
      return {
        s3_put_mb_s: signed,
        unsigned_pipe_mb_s: pipe,
        s3_rss_growth_mib: Math.max(most, rss()) - before,
      };
    } finally {
      await proxies.stop();
      await sink.stop();
    }
  },
};

function policies(port: number): string {
  const limits = { rate: '1000000/s', burst: 1_000_000 } as const;
  const endpoint = `http://127.0.0.1:${port}`;
  const signed = {
    auth: { type: 'sigv4', region: 'us-east-1' },
    secretRef: 'env:BENCH_S3',
  } as const;
  return analystPolicies(
    [
      { id: 's3', datasource: 's3/data', prefixes: 'any', operations: ['put'], limits },
      { id: 'pipe', datasource: 'http/pipe', limits },
    ],
    [
      loopbackDatasource('s3', 'data', `${endpoint}/bucket`, signed),
      loopbackDatasource('http', 'pipe', endpoint),
    ],
  );
}

/** Takes every body to its end and answers 200, reading nothing of it. */
async function startSink(): Promise<{ port: number; stop: () => Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    let head = '';
    let left = 0;
    socket.on('data', (bytes: Buffer) => {
      let body = bytes.length;
      if (left === 0) {
        head += bytes.toString('latin1');
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) return;
        left = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
        body = head.length - end - 4;
        head = '';
      }
      left -= body;
      if (left === 0) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP listener');
  return {
    port: address.port,
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** @throws {Error} where the answer is not 200 */
async function upload(
  port: number,
  token: string,
  kind: 'signed' | 'plain',
  bytes: number,
): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1' });
  const answered = answerOf(socket);
  const count = bytes / CHUNK.length;
  const common = `Proxy-Authorization: Bearer ${token}\r\n`;
  if (kind === 'plain') {
    const host = 'http-pipe.outrider.internal';
    socket.write(
      `PUT http://${host}/k HTTP/1.1\r\nHost: ${host}\r\n${common}Content-Length: ${bytes}\r\n\r\n`,
    );
    for (let at = 0; at < count; at++) await written(socket, CHUNK);
  } else await writeSigned(socket, common, count);
  const status = await answered;
  socket.destroy();
  if (status !== '200') throw new Error(`the upload was answered ${status}`);
}

/** All chunks are alike, so that the client costs next to nothing: one hash, and one signature each. */
async function writeSigned(socket: Socket, common: string, count: number): Promise<void> {
  const host = 's3-data.outrider.internal';
  const payload = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD';
  const scope = { time: sigv4.awsTime(Date.now()), region: 'us-east-1', service: 's3' };
  const headers = [
    ['host', host],
    ['x-amz-content-sha256', payload],
    ['x-amz-date', scope.time],
    ['x-amz-decoded-content-length', String(count * CHUNK.length)],
  ] as const;
  const parts = { method: 'PUT', path: '/k', normalize: false, query: [], headers, payload };
  const credentials = { accessKeyId: PLACEHOLDER, secretAccessKey: PLACEHOLDER };
  const head = (size: number, signature: string) =>
    `${size.toString(16)};chunk-signature=${signature}\r\n`;
  const zeros = '0'.repeat(64);
  const framed = head(CHUNK.length, zeros).length + CHUNK.length + 2;
  const length = count * framed + head(0, zeros).length + 2;
  const fields = [
    ...headers,
    ['authorization', sigv4.authorization(parts, scope, credentials)],
    ['content-length', String(length)],
  ].map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`PUT http://${host}/k HTTP/1.1\r\n${common}${fields.join('')}\r\n`);

  const key = sigv4.signingKey(PLACEHOLDER, scope);
  const hash = sigv4.sha256(CHUNK);
  let previous = sigv4.signature(parts, scope, credentials);
  const next = (of: string): string => {
    const lines = [scope.time, sigv4.scopeText(scope), previous, sigv4.EMPTY_SHA256, of];
    previous = sigv4.hmac(key, ['AWS4-HMAC-SHA256-PAYLOAD', ...lines].join('\n')).toString('hex');
    return previous;
  };
  for (let at = 0; at < count; at++) {
    socket.write(head(CHUNK.length, next(hash)));
    socket.write(CHUNK);
    await written(socket, '\r\n');
  }
  socket.write(`${head(0, next(sigv4.EMPTY_SHA256))}\r\n`);
}

async function written(socket: Socket, bytes: Buffer | string): Promise<void> {
  if (!socket.write(bytes) && !socket.destroyed) await once(socket, 'drain');
}

function answerOf(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the proxy hung up')));
    socket.once('data', (bytes: Buffer) => resolve(bytes.toString('latin1').split(' ')[1]));
  });
}
