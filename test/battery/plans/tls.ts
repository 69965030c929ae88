import { bytesOf } from '../bytes.ts';
import { type Fields, numberOf, pairsOf, textOf } from '../case.ts';
import { clientHello } from '../hello.ts';
import { http2Preface, http2Request } from '../http2.ts';
import type { Plan, Planner } from '../plan.ts';
import { connectHead, exchanged, opened, type Step, socksTo } from '../steps.ts';

/** Two hosts of the fixtures: requests to the one are looked into, the other is an opaque tunnel. */
const [LOOKED_INTO, OPAQUE] = ['api.allowed.test', 'other.allowed.test'];
const RECORD_HEADER_BYTES = 5;

/** A TLS hello behind CONNECT. */
export const tls: Planner = ({ send }) => {
  const pieces = piecesOf(send['fragment']);
  const hello = (serverName: string | null) =>
    exchanged(
      clientHello({
        serverName,
        ech: Boolean(send['ech']),
        padding: numberOf(send, 'padding') ?? 0,
        recordBytes: pieces,
      }),
      0,
      pieces && pieces + RECORD_HEADER_BYTES - 1,
    );
  const authority = authorityOf(send);
  const sni = sniOf(send, authority);
  return [
    ...openings(authority, (mode, open) => ({
      mode,
      form: 'tunnel',
      native: true,
      steps: [...open, ...hello(sni)],
    })),
    ...openings(swapped(authority) ?? '', (mode, open) => ({
      mode: `${mode}, the other kind of rule`,
      form: 'tunnel',
      native: true,
      steps: [...open, ...hello(sni === null ? null : (swapped(sni) ?? sni))],
    })),
  ];
};

/** Bytes behind CONNECT that may be anything. */
export const tunnel: Planner = ({ send }, { known }) => {
  const bytes = bytesOf(textOf(send, 'bytes') ?? '', textOf(send, 'encoding'), known);
  const authority = authorityOf(send);
  const plan =
    (suffix: string) =>
    (mode: string, open: Step[]): Plan => ({
      mode: mode + suffix,
      form: 'tunnel',
      native: true,
      steps: [...open, ...exchanged(bytes, 0)],
    });
  return [
    ...openings(authority, plan('')),
    ...openings(swapped(authority) ?? '', plan(', the other kind of rule')),
  ];
};

/** Requests of HTTP/1.1 inside TLS that ends at the door. */
export const tlsHttp: Planner = ({ send }, { known }) => {
  const bytes = bytesOf(textOf(send, 'bytes') ?? '', textOf(send, 'encoding'), known);
  const want = Math.max(1, bytes.toString('latin1').match(/ HTTP\/1\.[01]\r?\n/g)?.length ?? 0);
  const authority = authorityOf(send);
  const secure: Step = { tls: { name: sniOf(send, authority) ?? undefined, alpn: ['http/1.1'] } };
  return openings(authority, (mode, open) => ({
    mode,
    form: 'http',
    native: true,
    steps: [...open, secure, ...exchanged(bytes, want)],
  }));
};

/** A request of HTTP/2. */
export const tlsHttp2: Planner = ({ send }) => {
  const authority = authorityOf(send);
  const fields: (readonly [string, string])[] = [
    [':method', textOf(send, 'method') ?? 'GET'],
    [':scheme', 'https'],
    [':authority', textOf(send, 'authority') ?? hostOf(authority)],
    [':path', textOf(send, 'target') ?? '/v1/ok'],
    ...pairsOf(send, 'headers').map(([name, value]) => [name.toLowerCase(), value] as const),
  ];
  const secure: Step = { tls: { name: sniOf(send, authority) ?? undefined, alpn: ['h2'] } };
  return openings(authority, (mode, open) => ({
    mode: `${mode}, HTTP/2`,
    form: 'http2',
    native: true,
    steps: [
      ...open,
      secure,
      ...exchanged(Buffer.concat([http2Preface(), http2Request(fields)]), 0),
    ],
  }));
};

/** Bytes of the hello in one record; of all in one packet so many that packets and records end elsewhere. As a number, the first number of a text, or some where it only is to be in pieces. */
function piecesOf(fragment: unknown): number | undefined {
  if (fragment === undefined || fragment === null || fragment === false) return undefined;
  const [digits = '32'] = /[1-9]\d*/.exec(JSON.stringify(fragment)) ?? [];
  return Number(digits);
}

function openings(authority: string, plan: (mode: string, open: Step[]) => Plan): Plan[] {
  if (authority === '') return [];
  const socks = socksTo(authority);
  return [
    plan('connect', opened(connectHead(authority))),
    ...(socks ? [plan('socks5', [{ connect: 'relay' }, { socks: socks.toString('base64') }])] : []),
  ];
}

function authorityOf(send: Fields): string {
  const connect = textOf(send, 'connect') ?? `${LOOKED_INTO}:443`;
  return /:\d+$/.test(connect) ? connect : `${connect}:443`;
}

function hostOf(authority: string): string {
  return authority.replace(/:\d+$/, '');
}

/** An absent name is the host's, as clients have it; null is none. */
function sniOf(send: Fields, authority: string): string | null {
  return send['sni'] === null ? null : (textOf(send, 'sni') ?? hostOf(authority));
}

function swapped(name: string): string | undefined {
  const lower = name.toLowerCase();
  const replaced = (from: string, to: string) => to + name.slice(from.length);
  if (lower.startsWith(LOOKED_INTO)) return replaced(LOOKED_INTO, OPAQUE);
  if (lower.startsWith(OPAQUE)) return replaced(OPAQUE, LOOKED_INTO);
  return undefined;
}
