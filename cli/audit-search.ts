import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { parseSpanMs } from '#core/config';
import { auditFilesOf, eachLine } from './audit-files.ts';
import { WrongAuditUsage } from './audit-usage.ts';

/** Options that name a field of a record, and the field. */
const FIELDS = {
  subject: 'subject',
  tenant: 'tenant',
  role: 'role',
  datasource: 'datasource',
  verdict: 'verdict',
  code: 'code',
  reason: 'reason',
  rule: 'rule',
  credential: 'credential',
  event: 'event',
  method: 'method',
  status: 'status',
  sandbox: 'sandboxId',
  exec: 'execId',
  request: 'requestId',
  egress: 'egressId',
  writer: 'writer',
} as const;

const TAIL_COUNT = 20;
const FILTER = { type: 'string', multiple: true } as const;

type AuditRecord = Readonly<Record<string, unknown>>;
type Test = (record: AuditRecord) => boolean;

/**
 * `outrider audit tail|search`: prints the records that every filter holds for, as they are stored: 0, or 1 where there is none.
 * `tail` gives the last ones by the time in the record, `search` all, or the first `-n`, in the order of the files.
 */
export async function auditSearch(
  verb: 'tail' | 'search',
  argv: readonly string[],
  out: NodeJS.WritableStream,
): Promise<number> {
  const { paths, tests, count } = parse(verb, argv);
  const found = records(paths, tests);
  let shown = 0;
  for (const { line } of verb === 'tail' ? last(found, count) : first(found, count)) {
    shown += 1;
    if (!out.write(`${line}\n`)) await once(out, 'drain');
  }
  return shown > 0 ? 0 : 1;
}

interface Found {
  readonly line: string;
  readonly time: string;
}

function* records(paths: readonly string[], tests: readonly Test[]): Generator<Found> {
  for (const file of auditFilesOf(paths))
    for (const line of eachLine(file)) {
      const record = parsed(line);
      if (record && tests.every((test) => test(record)))
        yield { line, time: String(record['time']) };
    }
}

function* first(found: Iterable<Found>, count: number): Generator<Found> {
  let left = count;
  for (const one of found) {
    yield one;
    left -= 1;
    if (left === 0) return;
  }
}

/** Of all series together, so by time; no more than twice the count is held. */
function last(found: Iterable<Found>, count: number): Found[] {
  let kept: Found[] = [];
  const newest = (): Found[] => kept.toSorted(byTime).slice(-count);
  for (const one of found) {
    kept.push(one);
    if (kept.length > count * 2) kept = newest();
  }
  return newest();
}

function byTime(a: Found, b: Found): number {
  return a.time < b.time ? -1 : a.time > b.time ? 1 : 0;
}

/** A line that is no record is for `verify` to report. */
function parsed(line: string): AuditRecord | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

interface Asked {
  readonly paths: readonly string[];
  readonly tests: readonly Test[];
  readonly count: number;
}

/** @throws {WrongAuditUsage} */
function parse(verb: 'tail' | 'search', argv: readonly string[]): Asked {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        count: { type: 'string', short: 'n', multiple: true },
        ...Object.fromEntries(
          ['text', 'since', 'until', ...Object.keys(FIELDS)].map((name) => [name, FILTER]),
        ),
      },
    });
    if (positionals.length === 0) throw new Error('which file or directory?');
    const asked = Object.entries(values).map(([name, given]) => [name, only(name, given)] as const);
    const count = asked.find(([name]) => name === 'count')?.[1];
    const fallback = verb === 'tail' ? TAIL_COUNT : Number.POSITIVE_INFINITY;
    return {
      paths: positionals,
      tests: asked.flatMap(([name, value]) => testOf(name, value)),
      count: count === undefined ? fallback : countOf(count),
    };
  } catch (error) {
    throw new WrongAuditUsage(error instanceof Error ? error.message : 'wrong usage');
  }
}

/** Of two values of one filter the first would go unheard. */
function only(name: string, [value = '', ...more]: readonly string[]): string {
  if (more.length > 0) throw new Error(`--${name} is given more than once`);
  return value;
}

function testOf(name: string, wanted: string): Test[] {
  const field = Object.entries(FIELDS).find(([option]) => option === name)?.[1];
  if (field) return [(record) => field in record && String(record[field]) === wanted];
  if (name === 'text')
    return [
      ({ target, query }) =>
        [target, query].some((text) => typeof text === 'string' && text.includes(wanted)),
    ];
  if (name === 'since') {
    const from = timeOf(name, wanted);
    return [({ time }) => String(time) >= from];
  }
  if (name === 'until') {
    const to = timeOf(name, wanted);
    return [({ time }) => String(time) <= to];
  }
  return [];
}

function countOf(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1)
    throw new Error('-n: must be a whole number from 1');
  return count;
}

/** As records have it, so that times compare as texts. */
function timeOf(name: string, text: string): string {
  // Of other texts `Date.parse` makes a guess: `10` would be October 2001.
  const isDate = /^\d{4}-\d\d-\d\d/.test(text);
  const at = new Date(isDate ? text : Date.now() - agoMs(text));
  if (Number.isNaN(at.getTime()))
    throw new Error(`--${name} ${text}: must be a time such as 2026-11-21T09:00:00Z, or 10m`);
  return at.toISOString();
}

function agoMs(text: string): number {
  return /^\d+(ms|s|m|h)$/.test(text) ? parseSpanMs(text) : Number.NaN;
}
