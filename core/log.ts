import { type Logger as Pino, pino } from 'pino';
import { causeChain, OutriderError } from './errors.ts';
import { redactText } from './redact.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** The fixed names of log fields. One record a call, at its end; success is silent below the audit. */
export interface LogFields {
  requestId?: string | undefined;
  execId?: string | undefined;
  sandboxId?: string | undefined;
  code?: string | undefined;
  durationMs?: number | undefined;
  address?: string | undefined;
  error?: unknown;
  /** Anything else, under one name so that the top level stays a closed list. */
  detail?: Record<string, string | number | boolean | undefined>;
}

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** One JSON line a record on stderr: stdout belongs to protocols. Text that looks like a token never passes. */
export function createLogger(
  part: string,
  level: LogLevel = 'info',
  to: NodeJS.WritableStream = process.stderr,
): Logger {
  const sink: Pino = pino(
    {
      base: { part },
      level,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => void to.write(redactText(line)) },
  );
  const at =
    (name: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      const { error, ...rest } = fields;
      sink[name](error === undefined ? rest : { ...rest, ...describe(error) }, message);
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** For tests and for tools that print for themselves. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

function describe(error: unknown): { code?: string; cause: string[]; stack?: string | undefined } {
  const code = error instanceof OutriderError ? error.code : undefined;
  const stack = code === undefined || code === 'INTERNAL' ? stackOf(error) : undefined;
  return { ...(code ? { code } : {}), cause: causeChain(error), ...(stack ? { stack } : {}) };
}

function stackOf(error: unknown): string | undefined {
  const root = error instanceof OutriderError && error.cause instanceof Error ? error.cause : error;
  return root instanceof Error ? root.stack : undefined;
}
