import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { OutriderError, toOutriderError } from '#core/errors';
import { stateDir } from '#core/runtime-dir';
import { McpFront } from './mcp-front.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface Streams {
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

const DEFAULT_URL = 'http://127.0.0.1:8788/mcp';
/** How long answers are waited for after the client has closed its side. */
const GRACE_MS = 5_000;
/** Far above any message that a gateway takes; a longer line is not kept. */
const LINE_MAX_CHARACTERS = 16 * 2 ** 20;

const USAGE = 'usage: outrider mcp [--url URL] [--token-file FILE]';

/**
 * `outrider mcp [--url URL] [--token-file FILE]`: a stdio front to a gateway, for MCP clients that start their servers
 * themselves. stdin and stdout carry one JSON-RPC message a line and nothing else; stderr is for people. The token is that of
 * `--token-file`, of `OUTRIDER_TOKEN`, or the local one. Ends with 0 when stdin does, after at most 5 s for running requests;
 * 1 where it cannot start.
 */
export async function mcp(argv: readonly string[], env: Env, streams: Streams): Promise<number> {
  if (argv.includes('--help')) {
    streams.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const report = (line: string) => void streams.stderr.write(`outrider mcp: ${line}\n`);
  try {
    const options = readOptions(argv, env);
    const front = new McpFront({
      ...options,
      report,
      send: (message) => void streams.stdout.write(`${JSON.stringify(message)}\n`),
    });
    // The client may be gone before its answers: that ends the input too, and is no fault.
    streams.stdout.on('error', () => {});
    for await (const line of lines(streams.stdin)) await front.take(line);
    await front.close(GRACE_MS);
    return 0;
  } catch (thrown) {
    report(toOutriderError(thrown).message);
    return 1;
  }
}

/** @throws {OutriderError} CONFIG_INVALID */
function readOptions(argv: readonly string[], env: Env): { url: URL; token: string | undefined } {
  const { url, 'token-file': tokenFile } = parseOptions(argv, env);
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
    throw new OutriderError('CONFIG_INVALID', `--url must be an http or https URL, not "${url}"`);
  return { url: new URL(url), token: readToken(tokenFile, env) };
}

function parseOptions(argv: readonly string[], env: Env): { url: string; 'token-file'?: string } {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        url: { type: 'string', default: defaultUrl(env) },
        'token-file': { type: 'string' },
      },
    }).values;
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', USAGE, { cause: error });
  }
}

/** Where the gateway of this environment listens. */
function defaultUrl(env: Env): string {
  const listen = env['OUTRIDER_GATEWAY_LISTEN'];
  return listen ? `http://${listen}/mcp` : DEFAULT_URL;
}

/** The local token may be missing: a gateway started with `--insecure` asks for none. */
function readToken(tokenFile: string | undefined, env: Env): string | undefined {
  const token = tokenFile === undefined ? env['OUTRIDER_TOKEN'] : undefined;
  if (token) return token;
  const path = tokenFile ?? join(stateDir(env, process.getuid?.() ?? 0), 'token');
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if (tokenFile === undefined) return undefined;
    throw new OutriderError('CONFIG_INVALID', `the token file ${path} cannot be read`, {
      cause: error,
    });
  }
}

/** Lines of text; empty ones are passed over. @throws {OutriderError} INVALID_REQUEST for one that is too long */
async function* lines(input: NodeJS.ReadableStream): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let parts: string[] = [];
  let length = 0;
  for await (const chunk of input) {
    const pieces = (
      typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true })
    ).split('\n');
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) {
        const line = parts.join('').trim();
        if (line !== '') yield line;
        parts = [];
        length = 0;
      }
      parts.push(piece);
      length += piece.length;
      if (length > LINE_MAX_CHARACTERS)
        throw new OutriderError('INVALID_REQUEST', 'a message is longer than 16 Mi characters');
    }
  }
  const last = parts.join('').trim();
  if (last !== '') yield last;
}
