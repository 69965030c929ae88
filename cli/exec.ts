import { readFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { basename, extname } from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import { parseAddress } from '#core/address';
import { parseDurationMs } from '#core/config';
import { OutriderError } from '#core/errors';
import { fromServiceError } from '#core/grpc';
import {
  connect,
  defaultAddress,
  type Execution,
  type ProgramEnd,
  type ProgramOptions,
} from '#sdk';

type Env = Readonly<Record<string, string | undefined>>;

const USAGE = `usage: outrider exec [OPTIONS] FILE|- [ARGUMENT...]

Runs a program in a fresh sandbox of the running mesh and streams it. The program's exit code becomes this command's;
124 after a time-out, 125 where it could not run, 128 + N after signal N, 137 where a limit ended it; 2 after wrong usage.

  --timeout 30s      wall time; default and maximum come from the role
  --session NAME     keep the workspace under this name between programs
  --role NAME        needed only where you have several
  --profile NAME     of the sandbox, e.g. node; default: node for JavaScript and TypeScript, otherwise the role's first
  --language NAME    python, javascript, typescript or shell; default by the file's ending (.py .js .ts .sh)
  --env NAME=VALUE   may be given several times
  --address ADDRESS  of the runner; default: the local mesh
`;

const EXIT = { usage: 2, timeout: 124, failed: 125, limit: 137 } as const;

class WrongUsage extends OutriderError {}

/** `outrider exec`. What went wrong outside the program is one line on stderr. */
export async function exec(argv: readonly string[], env: Env): Promise<number> {
  let address = '';
  try {
    const command = parse(argv);
    if (!command) {
      process.stdout.write(USAGE);
      return 0;
    }
    const { file, options } = command;
    address = command.address ?? defaultAddress(env);
    const code =
      file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8').catch(unreadable);
    const client = connect({ address });
    const abort = new AbortController();
    process.once('SIGINT', () => abort.abort());
    process.once('SIGTERM', () => abort.abort());
    try {
      const execution = client.start(code, {
        ...options,
        fileName: file === '-' ? '' : basename(file),
        signal: abort.signal,
      });
      forwardStdin(execution, file === '-' || process.stdin.isTTY);
      return await stream(execution);
    } finally {
      client.close();
      process.stdin.destroy();
    }
  } catch (thrown) {
    const error = thrown instanceof OutriderError ? thrown : fromServiceError(thrown);
    process.stderr.write(`outrider exec: ${error.code}: ${error.message}\n`);
    if (error.code === 'UPSTREAM_UNREACHABLE')
      process.stderr.write(
        `outrider exec: is the mesh running? start it with \`npm start\`; no runner answers at ${address}, and another is named by OUTRIDER_RUNTIME_DIR or --address\n`,
      );
    return error instanceof WrongUsage ? EXIT.usage : EXIT.failed;
  }
}

async function stream({ events }: Execution): Promise<number> {
  for await (const event of events) {
    if (event.stream === 'end') return report(event.end);
    const to = event.stream === 'stdout' ? process.stdout : process.stderr;
    if (!to.write(event.data)) await new Promise((resolve) => to.once('drain', resolve));
  }
  throw new OutriderError('UPSTREAM_LOST', "the runner ended the stream before the program's end");
}

function report(end: ProgramEnd): number {
  if (end.killedBy === 'exit') return end.exitCode ?? EXIT.failed;
  const dropped = (end.raw.stdout?.dropped ?? 0n) + (end.raw.stderr?.dropped ?? 0n);
  process.stderr.write(
    `outrider exec: ended by ${end.killedBy}${end.raw.signal ? ` ${end.raw.signal}` : ''}${end.detail ? `: ${end.detail}` : ''}${dropped > 0n ? ` (${dropped} bytes of output dropped)` : ''}\n`,
  );
  if (end.killedBy === 'timeout') return EXIT.timeout;
  if (end.killedBy === 'signal') return 128 + signalNumber(end.raw.signal);
  return end.killedBy === 'runner' ? EXIT.failed : EXIT.limit;
}

/** Those without a name, as the runner writes them: `SIG34`. */
function signalNumber(name: string): number {
  const known: Readonly<Record<string, number>> = constants.signals;
  return known[name] ?? Number(/^SIG(\d+)$/.exec(name)?.[1] ?? 0);
}

function forwardStdin(execution: Execution, none: boolean): void {
  if (none) {
    execution.closeStdin();
    return;
  }
  process.stdin.on('data', (data: Buffer) => execution.write(data));
  process.stdin.on('end', () => execution.closeStdin());
  if (process.stdin instanceof Socket) process.stdin.unref(); // a program that does not read must not keep us waiting
}

const OPTIONS = new Set(['timeout', 'session', 'role', 'profile', 'language', 'env', 'address']);
const LANGUAGES: Readonly<Record<string, string>> = {
  '.sh': 'shell',
  '.js': 'javascript',
  '.mjs': 'javascript',
  '.ts': 'typescript',
  '.mts': 'typescript',
};

interface ExecCommand {
  readonly file: string;
  readonly address: string | undefined;
  readonly options: ProgramOptions;
}

function parse(argv: readonly string[]): ExecCommand | undefined {
  const given: Record<string, string> = {};
  const env: Record<string, string> = {};
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--help' || word === '-h') return undefined;
    if (!word.startsWith('--')) break;
    const [name = '', inline] = word.slice(2).split(/=(.*)/s);
    if (!OPTIONS.has(name)) fail(`unknown option --${name}\n${USAGE}`);
    const value = inline ?? argv[++at];
    if (value === undefined) fail(`--${name} needs a value`);
    if (name === 'env') {
      const [key = '', content] = value.split(/=(.*)/s);
      if (content === undefined) fail(`--env ${key} needs the form NAME=VALUE`);
      env[key] = content;
    } else given[name] = value;
  }
  const [file, ...args] = argv.slice(at);
  if (file === undefined) fail(`name a file, or - for standard input\n${USAGE}`);
  const { timeout, session, role, address, language = languageOf(file) } = given;
  if (address !== undefined) assertAddress(address);
  const profile = given['profile'] ?? (isJavaScript(language) ? 'node' : undefined);
  return {
    file,
    address,
    options: {
      args,
      env,
      language,
      ...(profile === undefined ? {} : { profile }),
      ...(timeout === undefined ? {} : { timeoutMs: timeoutOf(timeout) }),
      ...(session === undefined ? {} : { session }),
      ...(role === undefined ? {} : { role }),
    },
  };
}

function languageOf(file: string): string {
  return LANGUAGES[extname(file)] ?? 'python';
}

function isJavaScript(language: string): boolean {
  return language === 'javascript' || language === 'typescript';
}

function assertAddress(value: string): void {
  try {
    parseAddress(value);
  } catch (error) {
    fail(`--address ${error instanceof Error ? error.message : ''}`);
  }
}

function timeoutOf(value: string): number {
  try {
    return parseDurationMs(/^\d+$/.test(value) ? `${value}s` : value);
  } catch (error) {
    return fail(`--timeout ${error instanceof Error ? error.message : ''}`);
  }
}

function fail(message: string): never {
  throw new WrongUsage('INVALID_REQUEST', message);
}

function unreadable(error: NodeJS.ErrnoException): never {
  throw new OutriderError(
    'INVALID_REQUEST',
    `${error.path ?? 'it'} cannot be read (${error.code})`,
  );
}
