import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';

/** One request out of a sandbox, as an audit record tells of it. */
export interface AuditRequest {
  /** The file's name without its directories, and the line in it, from 1. */
  readonly file: string;
  readonly line: number;
  /** Joins the records of sidecar and proxy about one request; empty where the record has none. */
  readonly egressId: string;
  readonly role: string;
  readonly tenant: string;
  readonly verdict: string;
  /** Empty where there is none. For what report mode let through, the reason that an enforced policy would have given. */
  readonly reason: string;
  readonly rule: string;
  readonly credential: string;
  readonly reported: boolean;
  /** As `requestTarget` reads it; undefined where the record does not hold enough of it. */
  readonly request: string | undefined;
}

/** From this length on a target may have been cut by whoever wrote the record: of refused requests, and of others. */
const REFUSED_TARGET_CHARS = 256;
const TARGET_CHARS = 2_048;
const QUERY_CHARS = 500;
const CHUNK_BYTES = 1_048_576;

/**
 * The files that an AUDIT of a command line names: itself, or every `*.jsonl` of a directory.
 * @throws {OutriderError} NOT_FOUND
 */
export function auditFiles(path: string): string[] {
  if (!existsSync(path)) throw new OutriderError('NOT_FOUND', `${path} does not exist`);
  if (!statSync(path).isDirectory()) return [path];
  const files = readdirSync(path).filter((name) => name.endsWith('.jsonl'));
  if (files.length === 0) throw new OutriderError('NOT_FOUND', `${path} holds no *.jsonl file`);
  return files.toSorted().map((name) => join(path, name));
}

/**
 * Every request in audit files, in their order, without holding more than a piece of a file. Other records, and lines that are
 * none, are passed over: `outrider audit verify` is for them.
 */
export function* auditRequests(paths: readonly string[]): Generator<AuditRequest> {
  for (const path of paths) {
    const file = basename(path);
    let number = 0;
    for (const line of linesOf(path)) {
      number += 1;
      // Much cheaper than to parse what is something else. Whoever passed the audit on may have written it with spaces.
      if (!line.includes('"request"')) continue;
      const request = readRequest(line, file, number);
      if (request) yield request;
    }
  }
}

function* linesOf(path: string): Generator<string> {
  const fd = openSync(path, 'r');
  try {
    const decoder = new StringDecoder('utf8');
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    let rest = '';
    for (let read = readSync(fd, chunk); read > 0; read = readSync(fd, chunk)) {
      const lines = (rest + decoder.write(chunk.subarray(0, read))).split('\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
    if (rest !== '') yield rest;
  } finally {
    closeSync(fd);
  }
}

function readRequest(line: string, file: string, number: number): AuditRequest | undefined {
  const record = parse(line);
  if (record?.['event'] !== 'request') return undefined;
  const text = (name: string): string => {
    const value = record[name];
    return typeof value === 'string' ? value : '';
  };
  const reportedReason = text('reportedReason');
  const verdict = text('verdict');
  return {
    file,
    line: number,
    egressId: text('egressId'),
    role: text('role'),
    tenant: text('tenant'),
    verdict,
    reason: text('reason') || reportedReason,
    rule: text('rule'),
    credential: text('credential'),
    reported: verdict === 'allow' && reportedReason !== '',
    request: requestOf(text, verdict),
  };
}

/** What was asked for, put together again. Where the target has no single meaning there is none. */
function requestOf(text: (name: string) => string, verdict: string): string | undefined {
  const [target, method, query] = [text('target'), text('method'), text('query')];
  const most = verdict === 'allow' ? TARGET_CHARS : REFUSED_TARGET_CHARS;
  if (target === '' || method === '' || target.length >= most) return undefined;
  if (method === 'CONNECT') return `CONNECT ${target}`;
  // A query that was cut says something else than it did.
  const behind = query === '' || query.length >= QUERY_CHARS ? '' : `?${query}`;
  const where = /^https?:\/\//.test(target) ? target : `/${target}`;
  const protocol = text('protocol');
  return `${method} ${where}${behind}${protocol === '' ? '' : ` ${protocol}`}`;
}

function parse(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
