import { isRecord } from '#core/is-record';
import { FRAME } from './frames.ts';

/** What the agent reports, read with care: nothing of it is believed beyond its sandbox, so every field is checked and bounded. */

/** How an exec ended, as the agent saw it: nothing of it was left in the sandbox by then. */
export interface AgentEnd {
  readonly exit: number | undefined;
  readonly signal: number | undefined;
  /** Of every process of it, also of those that its main process never waited for; without what the waiting had cost. */
  readonly cpuMs: number;
  /** The largest of one process. */
  readonly maxRssBytes: number;
  /** It ended badly, and one of the writable file systems had no room left. */
  readonly diskFull: boolean;
  readonly exception: { type: string; message: string; traceback: string } | undefined;
  readonly artefacts: readonly { path: string; size: number }[];
}

export interface AgentFile {
  readonly path: string;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  readonly modifiedAtMs: number;
  readonly link: string;
}

/** The last moment that google.protobuf.Timestamp can say: the end of the year 9999. */
const DATE_MAX_MS = 253_402_300_799_000;

/** Which stream, and how many bytes. Throws on a report that breaks the format. */
export function skippedOf(body: Buffer): ['stdout' | 'stderr', number] {
  if (body.length !== 9) throw new Error('a report of what was skipped has 9 bytes');
  const bytes = body.readBigUInt64BE(1);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error('more than can be written');
  return [body.readUInt8(0) === FRAME.STDERR ? 'stderr' : 'stdout', Number(bytes)];
}

export function endOf(value: Record<string, unknown>): AgentEnd {
  const exception = value['exception'];
  const artefacts: unknown[] = Array.isArray(value['artefacts'])
    ? value['artefacts'].slice(0, 256)
    : [];
  return {
    exit: typeof value['exit'] === 'number' ? value['exit'] & 0xff : undefined,
    signal: typeof value['signal'] === 'number' ? value['signal'] : undefined,
    cpuMs: Math.round(numberField(value, 'cpu') * 1000),
    maxRssBytes: numberField(value, 'maxrss'),
    diskFull: value['disk'] === true,
    exception: isRecord(exception)
      ? {
          type: textField(exception, 'type').slice(0, 256),
          message: textField(exception, 'message').slice(0, 8_192),
          traceback: textField(exception, 'traceback').slice(0, 65_536),
        }
      : undefined,
    artefacts: artefacts.filter(isRecord).flatMap((entry) => {
      const path = textField(entry, 'path');
      return staysBelow(path) ? [{ path, size: Math.trunc(numberField(entry, 'size')) }] : [];
    }),
  };
}

/** A path that names something below a directory, whoever joins the two: callers save artefacts by their paths. */
function staysBelow(path: string): boolean {
  const parts = path.split('/');
  return (
    !path.includes('\0') && parts.every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

export function fileOf(value: unknown): AgentFile {
  const entry = isRecord(value) ? value : {};
  return {
    path: textField(entry, 'path'),
    type: textField(entry, 'type'),
    size: Math.trunc(numberField(entry, 'size')),
    mode: numberField(entry, 'mode') & 0o7777,
    modifiedAtMs: Math.min(Math.round(numberField(entry, 'mtime') * 1000), DATE_MAX_MS),
    link: textField(entry, 'link'),
  };
}

export function parseObject(body: Buffer): Record<string, unknown> {
  const value: unknown = JSON.parse(body.toString('utf8'));
  if (!isRecord(value)) throw new Error('a control frame must hold an object');
  return value;
}

/** Not negative, and a whole number of that size is exact. */
export function numberField(value: Record<string, unknown>, name: string): number {
  const field = value[name];
  return typeof field === 'number' && Number.isFinite(field)
    ? Math.min(Math.max(0, field), Number.MAX_SAFE_INTEGER)
    : 0;
}

export function textField(value: Record<string, unknown>, name: string): string {
  const field = value[name];
  return typeof field === 'string' ? field : '';
}
