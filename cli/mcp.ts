import { isUtf8 } from 'node:buffer';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { parseAddress } from '#core/address';
import { OutriderError, toOutriderError } from '#core/errors';
import { McpEndpoint } from './mcp-endpoint.ts';
import { McpFront } from './mcp-front.ts';
import { createTokenSource, type TokenSource } from './mcp-token.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface Streams {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
}

const DEFAULT_URL = 'http://127.0.0.1:8788/mcp';
/** How long answers are waited for after the client has closed its side. */
const GRACE_MS = 5_000;
/** Far above any message that a gateway takes; a longer line is not kept. */
const LINE_MAX_BYTES = 16 * 2 ** 20;
const LINE_FEED = 0x0a;
/** No JSON, so that it is answered as that. */
const NO_TEXT = '\ufffd';

const USAGE = 'usage: outrider mcp [--url URL] [--token-file FILE]';
const HELP = `${USAGE}

Speaks MCP on stdin and stdout, one message a line, to a gateway: for clients that start their servers themselves.

  --url URL          of the gateway; default: where OUTRIDER_GATEWAY_LISTEN says that it listens, otherwise ${DEFAULT_URL}
  --token-file FILE  that holds the token, read for each request; default: OUTRIDER_TOKEN, otherwise the local token

Exit: 0 where stdin has ended, or at a signal; 1 where it cannot start, or a line is longer than 16 MiB.
`;

/**
 * `outrider mcp [--url URL] [--token-file FILE]`: a stdio front to a gateway, for MCP clients that start their servers
 * themselves. stdin and stdout carry one JSON-RPC message a line and nothing else; stderr is for people. The token is that of
 * `--token-file`, of `OUTRIDER_TOKEN`, or the local one. Ends with 0 when stdin does, after at most 5 s for running requests, and
 * at SIGTERM or SIGINT, which leave them no time; 1 where it cannot start, or a line is longer than 16 MiB.
 */
export async function mcp(argv: readonly string[], env: Env, streams: Streams): Promise<number> {
  if (argv.includes('--help')) {
    streams.stdout.write(HELP);
    return 0;
  }
  const report = (line: string) => void streams.stderr.write(`outrider mcp: ${line}\n`);
  const stopped = untilStopped(streams.stdout);
  try {
    const { url, token } = readOptions(argv, env);
    const front = new McpFront({
      endpoint: new McpEndpoint(url, token),
      report,
      send: writer(streams.stdout, stopped),
    });
    try {
      await Promise.race([forward(streams.stdin, front), stopped]);
      return 0;
    } finally {
      const timer = new AbortController();
      const late = sleep(GRACE_MS, undefined, timer).catch(() => {});
      await front.close(Promise.race([stopped, late]));
      timer.abort();
    }
  } catch (thrown) {
    report(toOutriderError(thrown).message);
    return 1;
  } finally {
    streams.stdin.destroy(); // it would keep the process
  }
}

async function forward(stdin: Readable, front: McpFront): Promise<void> {
  for await (const line of lines(stdin)) void front.take(line); // to see its end, whatever the gateway does
}

/** Resolves at a signal, and where the client reads no more. */
function untilStopped(stdout: Writable): Promise<void> {
  return new Promise((resolve) => {
    process.on('SIGTERM', () => resolve());
    process.on('SIGINT', () => resolve());
    stdout.on('error', () => resolve());
  });
}

/** Writes a message a line, as it is; each waits until the client has taken those before, so that what it does not read stays at the gateway. */
function writer(stdout: Writable, stopped: Promise<void>): (message: string) => Promise<void> {
  let drained: Promise<unknown> | undefined;
  return async (message) => {
    if (stdout.write(`${message}\n`)) return;
    drained ??= Promise.race([once(stdout, 'drain').catch(() => {}), stopped]).then(() => {
      drained = undefined;
    });
    await drained;
  };
}

/** @throws {OutriderError} CONFIG_INVALID */
function readOptions(argv: readonly string[], env: Env): { url: URL; token: TokenSource } {
  const { url, 'token-file': tokenFile } = parseOptions(argv);
  return { url: parseUrl(url ?? defaultUrl(env)), token: createTokenSource(tokenFile, env) };
}

/** @throws {OutriderError} CONFIG_INVALID, without the text: what stands in the wrong place may be a token */
function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol))
    throw new OutriderError('CONFIG_INVALID', '--url must be an http or https URL');
  if (url.username !== '' || url.password !== '')
    throw new OutriderError('CONFIG_INVALID', '--url must not name a user; use --token-file');
  return url;
}

function parseOptions(argv: readonly string[]): { url?: string; 'token-file'?: string } {
  try {
    return parseArgs({
      args: [...argv],
      options: { url: { type: 'string' }, 'token-file': { type: 'string' } },
    }).values;
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', USAGE, { cause: error });
  }
}

/** Where the gateway of this environment listens. @throws {OutriderError} CONFIG_INVALID for a socket, whose path would be a host of that name */
function defaultUrl(env: Env): string {
  const listen = env['OUTRIDER_GATEWAY_LISTEN'];
  if (!listen) return DEFAULT_URL;
  if (parseAddress(listen).kind === 'unix')
    throw new OutriderError(
      'CONFIG_INVALID',
      'OUTRIDER_GATEWAY_LISTEN is a unix socket: name the URL that leads to it with --url',
    );
  return `http://${listen}/mcp`;
}

/**
 * Lines of text; empty ones are passed over. One that is not UTF-8 comes as `NO_TEXT`: decoded all the same it would be another message.
 * @throws {OutriderError} INVALID_REQUEST for one that is too long
 */
async function* lines(input: NodeJS.ReadableStream): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  let length = 0;
  let isFirst = true;
  const take = (): string => {
    const bytes = Buffer.concat(parts);
    parts = [];
    length = 0;
    const line = isUtf8(bytes) ? bytes.toString('utf8') : NO_TEXT;
    const text = isFirst ? line.replace(/^\ufeff/, '') : line;
    isFirst = false;
    return text.trim();
  };
  for await (const chunk of input) {
    let rest = Buffer.from(chunk);
    for (let end = rest.indexOf(LINE_FEED); end >= 0; end = rest.indexOf(LINE_FEED)) {
      parts.push(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
      const line = take();
      if (line !== '') yield line;
    }
    parts.push(rest);
    length += rest.length;
    if (length > LINE_MAX_BYTES)
      throw new OutriderError('INVALID_REQUEST', 'a message is longer than 16 MiB');
  }
  const last = take();
  if (last !== '') yield last;
}
