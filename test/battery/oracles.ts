import { type Case, numberOf } from './case.ts';
import { connectionsOf, lookUps, type Outcome, requestsOf, saw } from './judge.ts';
import { NAMES, SECRETS } from './world.ts';

/** Kinds whose cases are about what an origin, a name server or a token endpoint does: they are reached, then refused. */
const REACHING = new Set(['dns', 'upstream-response', 'upstream-tls', 'abort', 'fault']);

/** What must hold of every case, besides what it expects itself: one sentence for each that does not. */
export function oracleProblems(one: Case, outcome: Outcome): string[] {
  return [
    ...(isDenied(one, outcome) ? untouched(one, outcome) : requestsAgree(one, outcome)),
    ...recordsAgree(outcome),
    ...tellsNothing(outcome),
  ];
}

/** Whether all ways in were decided alike. */
export function modeProblems(outcomes: readonly Outcome[]): string[] {
  const allowed = outcomes.filter(({ verdict }) => verdict === 'allow');
  if (allowed.length === 0 || allowed.length === outcomes.length) return [];
  return [
    `the ways in differ: ${outcomes.map((outcome) => `${outcome.plan.mode}: ${saw(outcome)}`).join('; ')}`,
  ];
}

function isDenied({ expect }: Case, { verdict, answers }: Outcome): boolean {
  return (
    (expect.outcome === 'deny' || expect.outcome === 'close' || verdict === 'deny') &&
    answers.length < 2
  );
}

/** Nothing was dialled and nobody asked. */
function untouched({ send, expect }: Case, outcome: Outcome): string[] {
  if (REACHING.has(send.kind)) return [];
  const dialled = numberOf(expect, 'upstream_connections') ?? 0;
  const most = Math.max(dialled, numberOf(expect, 'upstream_requests_max') ?? 0);
  return [
    ...(connectionsOf(outcome).length > most
      ? [`${connectionsOf(outcome).length} connections upstream for what is denied`]
      : []),
    ...(lookUps(outcome) > most ? [`${lookUps(outcome)} DNS look-ups for what is denied`] : []),
  ];
}

/** Origins parsed as many requests as the proxy accepted. */
function requestsAgree({ send, expect }: Case, outcome: Outcome): string[] {
  // A request that never ends has begun at the origin, and is no accepted one.
  if (expect.outcome === 'held-or-deny') return [];
  if (REACHING.has(send.kind) || !['http', 'http2'].includes(outcome.plan.form)) return [];
  const accepted = outcome.seen.proxy.filter(({ verdict }) => verdict === 'allow').length;
  const parsed = requestsOf(outcome).length;
  return parsed === accepted
    ? []
    : [`origins parsed ${parsed} requests, the proxy accepted ${accepted}`];
}

/** One record of the sidecar for each request, and one of the proxy for each that reached it. */
function recordsAgree(outcome: Outcome): string[] {
  const { plan, seen, answers } = outcome;
  if (plan.form === 'datagram') return [];
  if (plan.past === 'sidecar') return recordedOnce(outcome);
  const { sidecar, proxy } = seen;
  // TLS that ends at the door has a record for each request inside, and here there was none.
  const onlyOpened =
    ['tunnel', 'opening'].includes(plan.form) && outcome.verdict === 'allow' && proxy.length === 0;
  const wanted = onlyOpened ? sidecar.length : Math.max(1, answers.length);
  const ids = sidecar.map(({ egressId }) => egressId);
  const reached = seen.sightings.some(({ connected, asked }) => connected ?? asked);
  return [
    ...(sidecar.length === wanted
      ? []
      : [`expected ${wanted} records of the sidecar, found ${sidecar.length}`]),
    ...(reached && proxy.length === 0
      ? ['an origin was reached without a record of the proxy']
      : []),
    ...proxy
      .filter(({ egressId }) => !ids.includes(egressId))
      .map(() => 'a record of the proxy belongs to none of the sidecar'),
    ...(new Set(proxy.map(({ egressId }) => egressId)).size === proxy.length
      ? []
      : ['two records of the proxy for one request']),
    ...sidecar
      .filter(
        ({ verdict, reason, sandboxId }) =>
          !verdict || !sandboxId || (verdict !== 'allow' && !reason),
      )
      .map(() => 'a record lacks verdict, reason or sandbox'),
    ...sidecar
      .filter(({ verdict, rule }) => verdict === 'allow' && !rule)
      .map(() => 'a record lacks its rule'),
  ];
}

/** One record of the proxy, and of nobody else. */
function recordedOnce({ seen: { sidecar, proxy } }: Outcome): string[] {
  return [
    ...(proxy.length === 1 ? [] : [`expected one record of the proxy, found ${proxy.length}`]),
    ...(sidecar.length === 0 ? [] : ['a sidecar has a record of what it never saw']),
    ...proxy
      .filter(({ egressId, verdict, reason }) => !egressId || verdict !== 'deny' || !reason)
      .map(() => 'a record lacks its id, verdict or reason'),
  ];
}

/** No secret, no address that the program did not name itself, no stack. */
function tellsNothing({ plan, text, answers }: Outcome): string[] {
  const sent = plan.steps
    .map((step) => ('send' in step ? step.send : 'open' in step ? step.open : ''))
    .map((bytes) => Buffer.from(bytes, 'base64').toString('latin1'))
    .join('');
  const bodies = answers.map(({ body }) => body).join('\n');
  const secrets = Object.values(SECRETS)
    .flatMap(spellings)
    .filter((secret) => text.toLowerCase().includes(secret.toLowerCase()));
  const addresses = [
    ...(bodies.match(/\b\d{1,3}(?:\.\d{1,3}){3}\b/g) ?? []),
    ...Object.values(NAMES)
      .flat()
      .filter((address) => bodies.includes(address)),
  ];
  const known = (address: string) =>
    sent.includes(address) || /127\.1|0x7f|\[::|127\.0\.1/.test(sent);
  return [
    ...secrets.map(() => 'the answer has a secret'),
    ...addresses
      .filter((address) => !known(address))
      .map((address) => `the answer has the address ${address}`),
    ...(/\n\s+at \S+ \(?\S+:\d+:\d+/.test(text) ? ['the answer has a stack trace'] : []),
  ];
}

/** A secret as it is, without an id before it, and in the encodings that a program could undo. */
export function spellings(pair: string): string[] {
  const secret = pair.replace(/^.*:/, '');
  const bytes = Buffer.from(secret);
  return [
    secret,
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('hex'),
    bytes.toString('base64url'),
  ];
}
