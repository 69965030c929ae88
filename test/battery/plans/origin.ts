import { bytesOf } from '../bytes.ts';
import type { CanaryOrders } from '../canary.ts';
import type { Behaviour, NameAnswer } from '../canary-dns.ts';
import { type Case, CaseUnusable, numberOf, textOf, textsOf } from '../case.ts';
import type { Plan, Planner } from '../plan.ts';
import { connectHead, exchanged, opened, type Step, socksTo } from '../steps.ts';
import { plansFor } from './raw.ts';

/** What cases say of a name server, by the words that they use. */
const BEHAVIOURS: readonly (readonly [RegExp, Behaviour])[] = [
  [/loop|circular|chain/i, 'loop'],
  [/serv.?fail/i, 'servfail'],
  [/nx.?domain/i, 'nxdomain'],
  [/trunc|tc.?bit/i, 'truncated'],
  [/wrong.?id|spoof|mismatch|txid|forged/i, 'wrong-id'],
  [/garbage|malformed|invalid|broken|corrupt/i, 'garbage'],
  [/empty|no.?data|no.?records/i, 'empty'],
  [/many|huge|oversize|large|flood/i, 'many'],
  [/refused|rcode.?5/i, 'refused'],
  [
    /time.?out|silent|silence|drop|no.?(?:answer|reply|response)|never|black.?hole|unreachable/i,
    'silent',
  ],
  [/slow|hang|stall|delay|late|unresponsive|ignore/i, 'silent'],
];
/** The answers are given one after the other, not together. */
const IN_TURN = /flip|rebind|alternat|rotat|switch|toggl/i;

/** A name server that answers as the case says; the request is a good one. */
export const dns: Planner = ({ send }) => {
  const host = askedHost(send);
  const names = { [host]: nameAnswer(send) };
  return goodRequests(host, numberOf(send, 'requests') ?? 1).map((plan) => ({
    ...plan,
    orders: { names },
  }));
};

/** A request that works once the name is asked for again; none where the answer was one that nobody keeps. */
export function forgotten({ send }: Case): Plan | undefined {
  const { lists, behaviour } = nameAnswer(send);
  if (!behaviour && lists.some((list) => list.length > 0)) return undefined;
  return goodRequests(askedHost(send), 1)[0];
}

function askedHost(send: Case['send']): string {
  const asked = textOf(send, 'request');
  const [, authority = ''] = /^(?:[A-Z]+ )?(?:https?:\/\/)?([^/\s]+)/.exec(asked ?? '') ?? [];
  const host = textOf(send, 'host') ?? authority.replace(/:\d+$/, '');
  if (host === '') throw new CaseUnusable('neither host nor request names a host');
  return host;
}

/** An origin whose answer is these bytes. */
export const upstreamResponse: Planner = ({ send }, { known }) => {
  const text = textOf(send, 'bytes') ?? '';
  const echo = /\{echo-(split|encoded):/.exec(text)?.[1] as 'split' | 'encoded' | undefined;
  const reflects = text.includes('{secret}');
  if (text === '{drip}') return dripping();
  // What would show a credential must have one.
  const host = echo || reflects ? 'a.allowed.test' : 'api.allowed.test';
  // The canary alone knows what was injected.
  const said = reflects ? text : '';
  const bytes =
    said === '' && !echo
      ? bytesOf(text, textOf(send, 'encoding'), known)
      : Buffer.from(said, 'latin1');
  const orders: CanaryOrders = echo ? { echo } : { respond: bytes.toString('base64') };
  return goodRequests(host, 1)
    .filter(({ mode }) => host === 'api.allowed.test' || mode.includes('TLS'))
    .map((plan) => ({ ...plan, orders }));
};

/** A byte in 10 s, from the first one or from some way into the body: longer than the proxy waits in the mesh that has this case. */
function dripping(): Plan[] {
  const head = 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n';
  const respond = Buffer.from(head + 'a'.repeat(100)).toString('base64');
  const begins = { 'from its first byte': 0, 'in its body': head.length + 5 };
  return Object.entries(begins).flatMap(([where, dripFrom]) =>
    goodRequests('api.allowed.test', 1).map((plan) => ({
      ...plan,
      mode: `${plan.mode}, ${where}`,
      orders: { respond, dripFrom, dripMs: 10_000 },
    })),
  );
}

/** An origin with a certificate that is not the host's; each of several that are named is a plan. */
export const upstreamTls: Planner = ({ send }, { certificates }) => {
  const kinds = (textOf(send, 'cert') ?? '').split('|');
  return kinds.flatMap((kind) => {
    const certificate = certificates.wrong(kind);
    if (!certificate) throw new CaseUnusable(`nobody knows how to make the certificate ${kind}`);
    return goodRequests('cred.allowed.test', 1)
      .filter(({ mode }) => mode.includes('TLS'))
      .map((plan) => ({ ...plan, mode: `${plan.mode}, ${kind}`, orders: { certificate } }));
  });
};

/** What is wrong with the place where the proxy gets a token for a datasource. */
const FAULTS: Readonly<Record<string, CanaryOrders>> = {
  token_endpoint_5xx: { tokenStatus: 503 },
};

/** A good request for a datasource whose credential cannot be had. */
export const fault: Planner = ({ send }) => {
  const told = textOf(send, 'fault') ?? '';
  const orders = FAULTS[told];
  if (!orders) throw new CaseUnusable(`nobody knows the fault "${told}"`);
  const bytes = 'GET /http/paid/v1/ok HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n';
  return plansFor(Buffer.from(bytes)).map((plan) => ({ ...plan, orders }));
};

/** Requests that the fixtures allow, one after the other on one connection, by every way to the host. */
function goodRequests(host: string, count: number): Plan[] {
  const steps = (url: string): Step[] =>
    Array.from({ length: count }, (_, at) =>
      exchanged(`GET ${url} HTTP/1.1\r\nHost: ${host}\r\n\r\n`, at + 1),
    ).flat();
  const secure: Step[] = [{ tls: { name: host, alpn: ['http/1.1'] } }, ...steps('/v1/ok')];
  const [plain, tls] = [80, 443].map((port): Step[] => {
    const socks = socksTo(`${host}:${port}`);
    return socks ? [{ connect: 'relay' }, { socks: socks.toString('base64') }] : [];
  });
  const all: Plan[] = [
    {
      mode: 'absolute form',
      form: 'http',
      native: true,
      steps: [{ connect: 'relay' }, ...steps(`http://${host}/v1/ok`)],
    },
    {
      mode: 'connect and TLS',
      form: 'http',
      native: true,
      steps: [...opened(connectHead(`${host}:443`)), ...secure],
    },
    { mode: 'socks5', form: 'http', native: true, steps: [...(plain ?? []), ...steps('/v1/ok')] },
    { mode: 'socks5 and TLS', form: 'http', native: true, steps: [...(tls ?? []), ...secure] },
  ];
  // Only one host of the fixtures is reached without TLS.
  return host === 'api.allowed.test' ? all : all.filter(({ mode }) => mode.includes('TLS'));
}

function nameAnswer(send: Case['send']): NameAnswer {
  const sequence = send['answers_sequence'];
  const told = textOf(send, 'behaviour') ?? '';
  const answers = textsOf(send, 'answers') ?? [];
  const inTurn = IN_TURN.test(told) ? answers.map((one) => [one]) : [answers];
  const lists = Array.isArray(sequence)
    ? sequence.map((one: unknown) => (Array.isArray(one) ? one.map(String) : [String(one)]))
    : inTurn;
  const behaviour = BEHAVIOURS.find(([words]) => words.test(told))?.[1];
  if (told !== '' && !behaviour && !IN_TURN.test(told))
    throw new CaseUnusable(`nobody knows the behaviour "${told}"`);
  return { lists, cname: textOf(send, 'cname'), behaviour };
}
