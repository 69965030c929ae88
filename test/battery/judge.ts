import { REASONS } from '#policies';
import { type Answer, headerIn, readAnswers } from './answers.ts';
import { type Case, type Fields, numberOf, numbersOf, textOf, textsOf } from './case.ts';
import { readHttp2 } from './http2.ts';
import type { Plan } from './plan.ts';
import type { Seen } from './world.ts';

/** What one way of sending a case came to. */
export interface Outcome {
  readonly plan: Plan;
  readonly seen: Seen;
  /** `silent`: nothing came until the time was over. */
  readonly verdict: 'allow' | 'deny' | 'close' | 'silent';
  /** Of the answers, in order; also of a CONNECT that was refused. */
  readonly statuses: readonly number[];
  readonly answers: readonly Answer[];
  /** All that the program read, as Latin-1. */
  readonly text: string;
}

/** Reasons by category that count as equal: those of the case files, and the product's own of that family. */
export type Families = Readonly<Record<string, readonly string[]>>;

export function outcomeOf(plan: Plan, seen: Seen): Outcome {
  const bytes = Buffer.from(seen.reply.data, 'base64');
  const text = bytes.toString('latin1');
  const { opened, reply, eof } = seen.reply;
  const refusedOpening = (opened !== null && opened !== 200) || (reply !== null && reply !== 0);
  const end = eof ? ('close' as const) : ('silent' as const);
  const outcome = { plan, seen, text };
  if (plan.form === 'http2' && !refusedOpening) {
    const { status, body, reset } = readHttp2(bytes);
    const answers = status === undefined ? [] : [{ status, reasonPhrase: '', headers: [], body }];
    const verdict =
      status === undefined ? (reset === undefined ? end : 'deny') : isOurs(body) ? 'deny' : 'allow';
    return { ...outcome, verdict, statuses: answers.map((one) => one.status), answers };
  }
  const answers = readAnswers(bytes);
  const statuses = answers.map(({ status }) => status);
  if (refusedOpening) return { ...outcome, verdict: 'deny', statuses, answers };
  if (plan.form === 'datagram')
    return { ...outcome, verdict: seen.reply.error === null ? 'allow' : 'deny', statuses, answers };
  if (plan.form === 'opening') return { ...outcome, verdict: 'allow', statuses, answers };
  if (plan.form === 'tunnel') {
    // A TLS handshake record, and not an alert: the other side has answered the hello.
    const verdict = bytes[0] === 22 ? 'allow' : answers.some(refusedByUs) ? 'deny' : end;
    return { ...outcome, verdict, statuses, answers };
  }
  const last = answers.at(-1);
  const whole = last !== undefined && !(eof && isCut(last));
  const verdict = !whole ? end : refusedByUs(last) ? 'deny' : 'allow';
  return { ...outcome, verdict, statuses, answers };
}

/** What is wrong with one outcome, as sentences; none where all that the case expects was seen. */
export function problemsOf(one: Case, outcome: Outcome, families: Families): string[] {
  const problems: string[] = [];
  const { expect } = one;
  // What an origin did is called by many names; all of them want it kept from the program.
  const blocked = one.send.kind === 'upstream-response' ? blockedOr(() => false) : undefined;
  const check = OUTCOMES[expect.outcome] ?? blocked;
  if (!check) problems.push(`nobody knows the outcome "${expect.outcome}"`);
  else problems.push(...check(outcome, expect));
  for (const [name, value] of Object.entries(expect)) {
    const checked = EXPECTATIONS[name];
    if (checked === 'prose' || value === null) continue;
    if (!checked) problems.push(`nobody knows the expectation "${name}"`);
    else problems.push(...checked(outcome, expect, { families, category: one.category }));
  }
  return problems;
}

type Check = (
  outcome: Outcome,
  expect: Fields,
  context: { readonly families: Families; readonly category: string },
) => string[];

const refused = (outcome: Outcome): string[] =>
  outcome.verdict === 'allow' ? [`expected a refusal, seen ${saw(outcome)}`] : [];
const closed = (outcome: Outcome): string[] =>
  outcome.verdict === 'close' || outcome.verdict === 'deny'
    ? []
    : [`expected the end of the connection, seen ${saw(outcome)}`];
const allowed = (outcome: Outcome): string[] =>
  outcome.verdict === 'allow' ? [] : [`expected to be allowed, seen ${saw(outcome)}`];
const either = (outcome: Outcome): string[] =>
  outcome.verdict === 'silent' ? ['nothing came until the time was over'] : [];
const blockedOr =
  (harmless: (outcome: Outcome) => boolean) =>
  (outcome: Outcome): string[] =>
    outcome.verdict !== 'allow' || harmless(outcome)
      ? either(outcome)
      : [`expected to be blocked, seen ${saw(outcome)}`];

/** What each outcome of a case file asks for, besides the other expectations. */
const OUTCOMES: Readonly<Record<string, (outcome: Outcome, expect: Fields) => string[]>> = {
  deny: (outcome) => (outcome.verdict === 'silent' ? either(outcome) : refused(outcome)),
  close: closed,
  drop: refused,
  allow: allowed,
  'allow-or-deny': either,
  'close-or-allow': either,
  'deny-or-rewrite': either,
  'deny-or-strip': either,
  'deny-or-public-only': either,
  'held-or-deny': (outcome) =>
    outcome.verdict === 'silent' ? [] : outcome.verdict === 'allow' ? refused(outcome) : [],
  'allow-pinned': allowed,
  'upstream-reset': () => [],
  // The first answer is a good one; what came after it is checked by the other expectations.
  'second denied': (outcome) =>
    outcome.answers.length > 1 ? refused(outcome) : [`expected two answers, seen ${saw(outcome)}`],
  'second request denied or served from first pinned address': (outcome) =>
    connectionsOf(outcome).every(({ address }) => address.endsWith('203.0.113.10'))
      ? either(outcome)
      : [
          `connected to ${connectionsOf(outcome)
            .map(({ address }) => address)
            .join()}`,
        ],
  response_framing: blockedOr(() => false),
  response_surplus: blockedOr(
    (outcome) => outcome.answers.length === 1 && !outcome.text.includes('evil'),
  ),
  unexpected_101: blockedOr(({ statuses }) => !statuses.includes(101)),
  too_many_1xx: blockedOr(() => false),
  response_header_too_large: blockedOr(() => false),
  // Bytes that nobody here unpacks are as harmless as they came.
  decompression_limit: blockedOr(
    ({ seen, text }) => seen.reply.length < 2 ** 20 || /content-encoding: gzip/i.test(text),
  ),
  ws_frame_too_large: blockedOr(() => false),
  upstream_idle_timeout: (outcome) =>
    /time/i.test(outcome.seen.reply.error ?? '')
      ? ['nothing came until the time was over']
      : closed(outcome),
  // That no secret is in what the program read is a check of its own, of every case.
  secret_redacted: either,
};

const EXPECTATIONS: Readonly<Record<string, Check | 'prose'>> = {
  outcome: 'prose',
  note: 'prose',
  extra: 'prose',
  rule: 'prose',
  policy: 'prose', // the plan's role
  process_alive: 'prose', // checked behind every case
  proxy_alive: 'prose',
  memory_bound_bytes: 'prose', // the bound of a hello: what is over it must end in a refusal, which `outcome` is about
  time_ms_max: (outcome, expect) =>
    atMost('milliseconds', outcome.seen.reply.ms, numberOf(expect, 'time_ms_max')),
  within_ms: (outcome, expect) =>
    atMost('milliseconds', outcome.seen.reply.ms, numberOf(expect, 'within_ms')),
  status: ({ plan, seen, statuses, verdict }, expect) => {
    const wanted = numbersOf(expect, 'status') ?? [];
    const status = statuses.at(-1);
    // SOCKS5 and what follows a yes have no status to tell.
    const refusedBySocks = (seen.reply.reply ?? 0) !== 0;
    if (status === undefined && (plan.form === 'tunnel' || !plan.native || refusedBySocks))
      return [];
    if (status !== undefined && wanted.includes(status)) return [];
    // Another way in may refuse at another step, by the same family of reasons; that is checked.
    return !plan.native && verdict === 'deny'
      ? []
      : [`expected status ${wanted.join(' or ')}, seen ${status ?? verdict}`];
  },
  status_if_blocked: ({ statuses, verdict }, expect) =>
    verdict === 'deny'
      ? oneOf('status', statuses.at(-1), [
          ...(numbersOf(expect, 'status_if_blocked') ?? []),
          // Of a gateway whose upstream is late it is the more exact one (RFC 9110, 15.6.5).
          ...(expect['outcome'] === 'upstream_idle_timeout' ? [504] : []),
        ])
      : [],
  second_status: ({ statuses }, expect) =>
    oneOf('second status', statuses[1], numbersOf(expect, 'second_status')),
  socks_reply: ({ seen }, expect) =>
    oneOf('SOCKS5 reply', seen.reply.reply ?? undefined, [numberOf(expect, 'socks_reply') ?? -1]),
  connection: ({ plan, seen }) =>
    plan.native && !seen.reply.eof ? ['the connection was not closed'] : [],
  audit_reason: ({ plan, seen }, expect, { families: known, category }) => {
    const wanted = (textOf(expect, 'audit_reason') ?? '').split('|');
    const reasons = [...seen.sidecar, ...seen.proxy].map(({ reason }) =>
      typeof reason === 'string' ? reason : 'none',
    );
    // Another spelling of a target can be wrong as a spelling before it is what the case is about.
    const spelling = plan.native ? [] : (known['host-canonicalisation'] ?? []);
    const families = [...familiesOf(wanted, known, category), spelling];
    const equal = reasons.some(
      (reason) => wanted.includes(reason) || families.some((family) => family.includes(reason)),
    );
    // What never reaches a door is nobody's to record.
    return equal ||
      (category === 'dns-rebinding-exfil' &&
        reasons.length === 0 &&
        /direct|udp/.test(wanted.join()))
      ? []
      : [`expected the reason ${wanted.join(' or ')}, recorded ${reasons.join() || 'nothing'}`];
  },
  audit_host: ({ seen }, expect) => {
    const host = textOf(expect, 'audit_host') ?? '';
    const told = seen.sidecar.map(({ target }) => String(target));
    return told.every((target) =>
      new RegExp(`^(?:https?://)?${host.replaceAll('.', '\\.')}(?:[:/]|$)`).test(target),
    )
      ? []
      : [`expected ${host} in the audit, recorded ${told.join()}`];
  },
  upstream_connections: (outcome, expect) =>
    same(
      'connections upstream',
      connectionsOf(outcome).length,
      numberOf(expect, 'upstream_connections'),
    ),
  upstream_connections_to_evil: (outcome) =>
    same(
      'connections to evil.test',
      connectionsOf(outcome).filter(({ address }) => address.endsWith('.66')).length,
      0,
    ),
  upstream_connections_to: (outcome, expect) => {
    const wanted = textsOf(expect, 'upstream_connections_to') ?? [];
    const strange = connectionsOf(outcome).filter(
      ({ address }) => !wanted.includes(address.replace('::ffff:', '')),
    );
    return strange.map(({ address }) => `connected to ${address}`);
  },
  dialed: (outcome, expect) => {
    const addresses = connectionsOf(outcome).map(({ address }) => address.replace('::ffff:', ''));
    return addresses.length > 0 && addresses.every((address) => address === expect['dialed'])
      ? []
      : [`expected to dial ${String(expect['dialed'])}, dialled ${addresses.join() || 'nothing'}`];
  },
  dns_queries: (outcome, expect) =>
    same('DNS queries', lookUps(outcome), numberOf(expect, 'dns_queries')),
  max_dns_queries: (outcome, expect) =>
    atMost('DNS look-ups', lookUps(outcome), numberOf(expect, 'max_dns_queries')),
  upstream_bytes: ({ seen }, expect) =>
    same(
      'connections that could carry bytes',
      seen.sightings.filter(({ connected }) => connected).length,
      numberOf(expect, 'upstream_bytes'),
    ),
  upstream_host: (outcome, expect) =>
    requestsOf(outcome).flatMap(({ host }) =>
      host.replace(/:\d+$/, '') === expect['upstream_host']
        ? []
        : [`the Host upstream was ${host}`],
    ),
  never_upstream: (outcome, expect) =>
    requestsOf(outcome).some((request) =>
      JSON.stringify(request).includes(String(expect['never_upstream'])),
    )
      ? [`${String(expect['never_upstream'])} was seen upstream`]
      : [],
  upstream_requests_max: (outcome, expect) =>
    atMost(
      'requests upstream',
      requestsOf(outcome).length,
      numberOf(expect, 'upstream_requests_max'),
    ),
  upstream_requests_to_evil: (outcome) =>
    same(
      'requests to evil.test',
      requestsOf(outcome).filter(({ host }) => host.includes('evil')).length,
      0,
    ),
  upstream_complete_requests: ({ seen }, expect) =>
    same(
      'whole requests upstream',
      seen.sightings.filter(({ complete }) => complete).length,
      numberOf(expect, 'upstream_complete_requests'),
    ),
  upstream_authorization: (outcome) =>
    requestsOf(outcome).flatMap(({ headers }) => {
      const values = valuesOf(headers, 'authorization');
      return values.length === 1 && /canary-/.test(values[0] ?? '')
        ? []
        : [`Authorization upstream: ${values.length} values`];
    }),
  upstream_accept_encoding: (outcome) =>
    requestsOf(outcome).flatMap(({ headers }) => {
      const values = valuesOf(headers, 'accept-encoding');
      return values.every((value) => /^(?:identity|gzip)$/.test(value))
        ? []
        : [`Accept-Encoding upstream: ${values.join()}`];
    }),
  upstream_headers_must_not_contain: (outcome, expect) => {
    const lines = requestsOf(outcome).map(({ headers }) =>
      pairs(headers)
        .map(([name, value]) => `${name}: ${value}`)
        .join('\n')
        .toLowerCase(),
    );
    return (textsOf(expect, 'upstream_headers_must_not_contain') ?? [])
      .filter((text) => lines.some((all) => all.includes(text.toLowerCase())))
      .map((text) => `"${text}" was seen upstream`);
  },
  body_must_not_contain: ({ text }, expect) =>
    (textsOf(expect, 'body_must_not_contain') ?? [])
      .filter((part) => text.includes(part))
      .map((part) => `the answer has "${part}"`),
  credentials_sent: (outcome, expect) =>
    same(
      'credentials sent',
      requestsOf(outcome).filter(({ headers }) => /canary-/.test(headers.join())).length,
      numberOf(expect, 'credentials_sent'),
    ),
  audit_subject: ({ seen }) =>
    seen.sidecar.every(({ subject }) => typeof subject === 'string' && subject !== 'admin')
      ? []
      : ['the audit names another subject'],
};

/** Connections to origins; those that only ask the name server are not among them. */
export function connectionsOf({ seen }: Outcome): { address: string; port: number }[] {
  return seen.sightings.flatMap(({ connected }) => connected ?? []);
}

export function requestsOf({ seen }: Outcome): NonNullable<Seen['sightings'][number]['request']>[] {
  return seen.sightings.flatMap(({ request }) => request ?? []);
}

/** A and AAAA of one name are one look-up. */
export function lookUps({ seen }: Outcome): number {
  return seen.sightings.filter(({ asked }) => asked?.type === 'A').length;
}

/** What was seen, for people. */
export function saw({ verdict, statuses, seen }: Outcome): string {
  const reasons = [...seen.sidecar, ...seen.proxy].flatMap(({ reason }) =>
    typeof reason === 'string' ? [reason] : [],
  );
  return [
    verdict,
    statuses.join('+'),
    seen.reply.tls === 'ok' ? '' : seen.reply.tls,
    seen.reply.error,
    reasons.join(),
  ]
    .filter(Boolean)
    .join(' ');
}

/** The reasons of every family that one of the wanted ones is in, and of the category, by the case files and by the product's list. */
function familiesOf(
  wanted: readonly string[],
  known: Families,
  category: string,
): (readonly string[])[] {
  const all = Object.entries(known).map(([name, reasons]) => [name, [...reasons]] as const);
  const own = Object.entries(REASONS).map(([reason, { family }]) => [family, [reason]] as const);
  const names = new Set(
    [...all, ...own]
      .filter(([name, reasons]) => name === category || wanted.some((one) => reasons.includes(one)))
      .map(([name]) => name),
  );
  return [...all, ...own].filter(([name]) => names.has(name)).map(([, reasons]) => reasons);
}

function refusedByUs(answer: Answer): boolean {
  return headerIn(answer, 'x-outrider-reason') !== undefined;
}

/** It has begun and is shorter than it says. */
function isCut(answer: Answer): boolean {
  const length = Number(headerIn(answer, 'content-length') ?? 0);
  return answer.body !== '' && answer.body.length < length;
}

function isOurs(body: string): boolean {
  return body.startsWith('{"error":{"code":');
}

function pairs(flat: readonly string[]): (readonly [string, string])[] {
  return flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? ''] as const] : []));
}

function valuesOf(flat: readonly string[], name: string): string[] {
  return pairs(flat)
    .filter(([key]) => key.toLowerCase() === name)
    .map(([, value]) => value);
}

function same(what: string, seen: number, wanted: number | undefined): string[] {
  return seen === wanted ? [] : [`expected ${wanted} ${what}, seen ${seen}`];
}

function atMost(what: string, seen: number, wanted = Number.POSITIVE_INFINITY): string[] {
  return seen <= wanted ? [] : [`expected at most ${wanted} ${what}, seen ${seen}`];
}

function oneOf(what: string, seen: number | undefined, wanted: readonly number[] = []): string[] {
  return seen !== undefined && wanted.includes(seen)
    ? []
    : [`expected ${what} ${wanted.join(' or ')}, seen ${seen ?? 'none'}`];
}
