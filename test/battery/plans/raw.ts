import { bytesOf } from '../bytes.ts';
import { numberOf, pairsOf, textOf } from '../case.ts';
import type { Plan, Planner } from '../plan.ts';
import { connectHead, exchanged, opened, type Step, socksTo } from '../steps.ts';

const OWN_HOST = '127.0.0.1:3128';
const FIRST_LINE = /^([^ \r\n]+) (.*?) (HTTP\/\S*)(\r?\n)/s;
const ALIAS = /^\/(clickhouse|prometheus|loki|s3|http)\/([a-z0-9-]+)(?=[/?#]|$)(.*)$/s;

/** Bytes of a request as they stand, and the same request by every other way in. */
export const raw: Planner = ({ send }, { known }) => {
  const bytes = bytesOf(textOf(send, 'bytes') ?? '', textOf(send, 'encoding'), known);
  return send.to === 'sidecar-socks5' ? asBytes(bytes) : plansFor(bytes);
};

/** The same of bytes in hexadecimal, which may be anything. */
export const rawHex: Planner = ({ send }) => {
  return asBytes(Buffer.from((textOf(send, 'hex') ?? '').replaceAll(/\s/g, ''), 'hex'));
};

function asBytes(bytes: Buffer): Plan[] {
  const want = /^[A-Z]/.test(bytes.toString('latin1')) ? 1 : 0;
  return [
    {
      mode: 'as sent',
      form: want === 0 ? 'tunnel' : 'http',
      native: true,
      steps: [{ connect: 'relay' }, ...exchanged(bytes, want)],
    },
  ];
}

/** A request of fields, as a client writes it. */
export const request: Planner = ({ send }, { known }) => {
  const told = textOf(send, 'target') ?? textOf(send, 'url') ?? '/';
  const target = encodedAsClientsDo(bytesOf(told, 'utf8', known).toString('utf8'));
  const method = textOf(send, 'method') ?? 'GET';
  const headers = pairsOf(send, 'headers').map(([name, value]) => [name, value]);
  const body = bytesOf(bodyOf(send['body']), 'utf8', known);
  const named = (name: string) => headers.some(([key]) => key?.toLowerCase() === name);
  const host = target.startsWith('/')
    ? OWN_HOST
    : (/^[a-z]+:\/\/([^/?#]*)/i.exec(target)?.[1] ?? '');
  if (!named('host')) headers.unshift(['Host', host]);
  const framed = named('content-length') || named('transfer-encoding');
  if (!framed && (body.length > 0 || method.startsWith('P')))
    headers.push(['Content-Length', String(body.length)]);
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const head = bytesOf(`${method} ${target} HTTP/1.1\r\n${lines}\r\n`, undefined, known);
  const firstStatus = numberOf(send, 'upstream_first');
  const bytes = Buffer.concat([head, body]);
  const plans = /^https:/i.test(target) ? asClientsOfHttps(bytes, host) : plansFor(bytes);
  return plans.map((plan) => ({
    ...plan,
    ...(firstStatus === undefined ? {} : { orders: { firstStatus } }),
  }));
};

/** A client that is given an https URL asks for a tunnel, and then in origin form. */
function asClientsOfHttps(bytes: Buffer, authority: string): Plan[] {
  const inside = bytes.toString('latin1').replace(/ https:\/\/[^/?# ]*/i, ' ');
  const rooted = inside.replace(/^(\S+) (?!\/)/, '$1 /');
  const to = /:\d+$/.test(authority) ? authority : `${authority}:443`;
  const name = to.replace(/:\d+$/, '').toLowerCase();
  const secure: Step[] = [
    { tls: { name, alpn: ['http/1.1'] } },
    ...exchanged(Buffer.from(rooted, 'latin1'), 1),
  ];
  const wish = socksTo(to);
  const plan = (mode: string, open: Step[]): Plan => ({
    mode,
    form: 'http',
    native: true,
    steps: [...open, ...secure],
  });
  return [
    plan('connect and TLS', opened(connectHead(to))),
    ...(wish
      ? [plan('socks5 and TLS', [{ connect: 'relay' }, { socks: wish.toString('base64') }])]
      : []),
  ];
}

/** What is no text is sent as JSON. */
function bodyOf(body: unknown): string {
  if (body === undefined || body === null) return '';
  return typeof body === 'string' ? body : JSON.stringify(body);
}

/** The plans for a request of HTTP/1.1: as it stands, and by every other way that can say the same. */
export function plansFor(bytes: Buffer): Plan[] {
  const text = bytes.toString('latin1');
  const want = Math.max(1, text.match(/ HTTP\/1\.[01]\r?\n/g)?.length ?? 0);
  const asSent = [{ connect: 'relay' as const }, ...exchanged(bytes, want)];
  const direct = [{ connect: 'socket' as const }, ...exchanged(bytes, want)];
  const plans: Plan[] = [
    { mode: 'as sent', form: 'http', native: true, steps: asSent },
    { mode: 'unix socket', form: 'http', native: true, steps: direct },
  ];
  const [, method = '', target = ''] = FIRST_LINE.exec(text) ?? [];
  if (method === 'CONNECT') plans.push(...(isPlainConnect(text, target) ? bySocks(target) : []));
  else if (ALIAS.test(target)) plans.push(...byAlias(text, method, target, want));
  else plans.push(...byTunnel(text, want));
  return plans;
}

/** SOCKS5 has an authority and nothing else: what is wrong elsewhere in the request would not be said. */
function isPlainConnect(text: string, authority: string): boolean {
  const [, host = ''] = /^CONNECT [^ ]+ HTTP\/1\.1\r\nHost: ([^\r\n]*)\r\n\r\n$/.exec(text) ?? [];
  return host === authority || host === authority.replace(/:[^:\]]*$/, '');
}

function bySocks(authority: string): Plan[] {
  const wish = socksTo(authority);
  if (!wish) return [];
  // A raw CONNECT says no more either: whether there is a tunnel is all that there is to see.
  const steps: Step[] = [{ connect: 'relay' }, { socks: wish.toString('base64') }];
  return [{ mode: 'socks5', form: 'opening', native: false, steps }];
}

/** The other two spellings of a datasource. */
function byAlias(text: string, method: string, target: string, want: number): Plan[] {
  const [, type = '', name = '', path = ''] = ALIAS.exec(target) ?? [];
  const spelled = (line: string, host: string, header = ''): Plan['steps'] => {
    const said = text
      .replace(target, () => line)
      .replace(`Host: ${OWN_HOST}`, `Host: ${host}${header}`);
    return [{ connect: 'relay' }, ...exchanged(Buffer.from(said, 'latin1'), want)];
  };
  if (!text.includes(`\r\nHost: ${OWN_HOST}\r\n`) || method === 'PRI') return [];
  // What names one already cannot name another.
  if (/\r\nX-Datasource:/i.test(text)) return [];
  const host = `${type}-${name}.outrider.internal`;
  return [
    {
      mode: 'alias by host',
      form: 'http',
      native: false,
      // As clients write it: a query has a path before it.
      steps: spelled(`http://${host}${path.replace(/^\?/, '/?')}`, host),
    },
    {
      mode: 'alias by header',
      form: 'http',
      native: false,
      steps: spelled(`/${type}${path}`, OWN_HOST, `\r\nX-Datasource: ${name}`),
    },
  ];
}

/** A request in absolute form becomes one in origin form behind CONNECT and SOCKS5, with TLS and without. */
function byTunnel(text: string, want: number): Plan[] {
  const authorities = [
    ...text.matchAll(/(?:^|\n)[^ \r\n]+ http:\/\/([^/?# \r\n]*)[^\r\n]* HTTP\/\S+\r?\n/gi),
  ].map(([, one = '']) => one);
  const [authority = ''] = authorities;
  const [, host = '', port = '80'] = /^(.*?)(?::(\d{1,5}))?$/s.exec(authority) ?? [];
  if (host === '' || new Set(authorities).size !== 1) return [];
  const inside = originForm(text, `http://${authority}`);
  const name = host.replace(/\.$/, '').toLowerCase();
  // Datasources are reached by requests alone.
  if (name.endsWith('outrider.internal')) return [];
  const bytes = Buffer.from(inside, 'latin1');
  const secure: Step[] = [{ tls: { name, alpn: ['http/1.1'] } }, ...exchanged(bytes, want)];
  const plans: Plan[] = [];
  const printable = /^[!-~]+$/.test(host);
  // A Host with a port means another one there.
  const secured = port === '80' && !/\r\nHost: [^\r\n]*:(?:80|443)\r\n/i.test(text);
  if (printable && secured)
    plans.push({
      mode: 'connect and TLS',
      form: 'http',
      native: false,
      steps: [...opened(connectHead(`${host}:443`)), ...secure],
    });
  const socks = (to: string): Step[] => {
    const wish = socksTo(to);
    return wish ? [{ connect: 'relay' }, { socks: wish.toString('base64') }] : [];
  };
  const [plain, tls] = [socks(`${host}:${port}`), socks(`${host}:443`)];
  if (plain.length > 0)
    plans.push({
      mode: 'socks5',
      form: 'http',
      native: false,
      steps: [...plain, ...exchanged(bytes, want)],
    });
  if (tls.length > 0 && secured)
    plans.push({ mode: 'socks5 and TLS', form: 'http', native: false, steps: [...tls, ...secure] });
  return plans;
}

function originForm(text: string, origin: string): string {
  // A scheme is written in any case.
  const anyCase = new RegExp(origin.replaceAll(/[$()*+.?[\\\]^{|}]/g, '\\$&'), 'gi');
  return text.replaceAll(anyCase, (found, at: number) =>
    text[at + found.length] === '/' ? '' : '/',
  );
}

/** What no client leaves as it is in a URL. */
function encodedAsClientsDo(target: string): string {
  return target.replaceAll(/[^!-~]|["<>{}|^`]/g, (char) => encodeURIComponent(char));
}
