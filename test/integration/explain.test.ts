import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { closeServer, listen } from '#core/http';
import {
  askDoor,
  type DataPath,
  eventually,
  openTunnel,
  startDataPath,
} from '../support/data-path.ts';
import { policyCommand } from '../support/policy-command.ts';

// REQUIREMENTS M6: what `policy explain` says is what the data path does. Random requests go through a real sidecar and a real
// proxy, and each is explained; verdict, reason and rule must agree.

const REQUESTS = 1_000;
/** A sidecar records 200 refusals of one sandbox at once, and counts the rest. */
const PER_SANDBOX = 150;

/** Where names lead to; others do not exist, so that what is allowed fails there and nothing is dialled. */
const NAMES = {
  'loop.example.com': ['127.0.0.1'],
  'private.example.com': ['203.0.113.9', '10.1.2.3'],
  'denied.example.com': ['203.0.113.7'],
};

const datasource = (name: string, port: number) => ({
  kind: 'Datasource',
  metadata: { name },
  spec: {
    type: 'http',
    endpoint: `http://127.0.0.1:${port}`,
    allowLoopback: true,
    auth: { type: 'none' },
  },
});

const documents = (port: number): readonly object[] => [
  {
    kind: 'Role',
    metadata: { name: 'analyst' },
    spec: { members: [{ issuer: 'outrider:local' }], sandbox: {} },
  },
  {
    kind: 'Boundary',
    metadata: { name: 'acme' },
    spec: {
      neverHosts: ['*.corp.example.com'],
      neverPorts: [25],
      neverCidrs: ['198.51.100.0/24'],
      mayMethods: ['GET', 'HEAD', 'POST', 'PUT'],
      mayLoopbackDatasources: true,
    },
  },
  {
    kind: 'EgressPolicy',
    metadata: { name: 'main' },
    spec: {
      subjects: [{ role: 'analyst' }],
      mode: 'enforce',
      allow: [
        {
          id: 'items',
          scheme: 'http',
          hosts: ['api.example.com'],
          methods: ['GET', 'POST'],
          paths: ['/v1/items/*', '/v1/**'],
          ports: [80, 8080],
        },
        {
          id: 'pages',
          scheme: 'http',
          hosts: ['api.example.com'],
          methods: ['GET'],
          paths: ['/list'],
          query: { page: '[0-9]{1,3}' },
          queryStrict: true,
        },
        {
          id: 'wide',
          scheme: 'http',
          hosts: ['*.example.com'],
          methods: ['GET', 'HEAD'],
          paths: ['/public/**', '/'],
        },
        {
          id: 'site',
          hosts: [
            'site.example.com',
            'loop.example.com',
            'private.example.com',
            'denied.example.com',
          ],
          protocols: ['tunnel'],
        },
        { id: 'seen', hosts: ['seen.example.com'], methods: ['GET'], paths: ['/v1/**'] },
        { id: 'data', datasource: 'http/example', methods: ['GET', 'PUT'], paths: ['/items/**'] },
      ],
      deny: [
        { id: 'no-secrets', hosts: ['api.example.com'], paths: ['/v1/secrets/**'] },
        {
          id: 'no-post',
          hosts: ['*.example.com'],
          methods: ['POST'],
          paths: ['/v1/items/**'],
          ports: [8080],
        },
        { id: 'no-corp', hosts: ['*.corp.example.com'] },
        { id: 'no-seven', cidrs: ['203.0.113.7/32'] },
        { id: 'no-admin', datasource: 'http/example', paths: ['/items/admin/**'] },
      ],
    },
  },
  datasource('example', port),
  datasource('unused', port),
];

const HOSTS = [
  'api.example.com',
  'API.Example.com',
  'api.example.com.',
  'www.example.com',
  'a.b.example.com',
  'example.com',
  'site.example.com',
  'seen.example.com',
  'x.corp.example.com',
  'loop.example.com',
  'private.example.com',
  'denied.example.com',
  'other.test',
  '203.0.113.5',
  '203.0.113.7',
  '203.0.113.99',
  '198.51.100.1',
  '169.254.169.254',
  '127.0.0.1',
  '10.0.0.1',
  '[::1]',
  '0x7f.1',
  'metadata.google.internal',
  'exa_mple..com',
  'user@api.example.com',
];
const PORTS = ['', '', '', ':80', ':8080', ':443', ':25', ':0', ':x'];
const PATHS = [
  '/',
  '/v1',
  '/v1/',
  '/v1/items/7',
  '/v1/secrets/x',
  '/V1/items',
  '/list',
  '/list?page=12',
  '/list?page=1234',
  '/list?page=1&q=2',
  '/list?page=%zz',
  '/public/a/b',
  '/public/../v1/x',
  '/public//x',
  '/public/%2e%2e/x',
  '/public/a%20b',
  '/v1/a;b',
  '/other',
];
const DATA = [
  '/http/example/items',
  '/http/example/items/3?x=1',
  '/http/example/items/admin/x',
  '/http/example/',
  '/http/unused/items',
  '/http/none/x',
  '/loki/x/y',
  '/ftp/x',
  '/http',
];
const METHODS = ['GET', 'GET', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'];

/** What became of a request; of one that was refused, which rule did it. */
interface Seen {
  readonly verdict: 'allow' | 'deny';
  readonly reason: string | null;
  readonly rule: string | null;
}

const origin = createServer((_, response) => void response.end('hello'));
let path: DataPath;
before(async () => {
  const address = await listen(origin, { kind: 'tcp', host: '127.0.0.1', port: 0 });
  assert.ok(address.kind === 'tcp');
  const texts = documents(address.port).map((one) =>
    JSON.stringify({ apiVersion: 'outrider/v1', ...one }),
  );
  path = await startDataPath(texts.join('\n---\n'), NAMES);
});
after(async () => {
  await path.stop();
  await closeServer(origin);
});

test(`what explain says of ${REQUESTS} random requests is what a real sidecar and a real proxy do`, {
  timeout: 240_000,
}, async () => {
  const random = generator(20_261_121);
  const found = new Map<string, number>();
  let door = '';
  for (let number = 0; number < REQUESTS; number += 1) {
    if (number % PER_SANDBOX === 0) door = await path.sandbox('analyst');
    const request = randomRequest(random);
    const seen = await ask(door, request);
    const said = await explained(request);
    assert.deepEqual(seen, said, `request ${number}: ${request}`);
    const key = said.reason ?? `allowed by ${said.rule}`;
    found.set(key, (found.get(key) ?? 0) + 1);
  }
  // A comparison of a thousand equal refusals would prove little.
  const rules = [...found.keys()].filter((key) => key.startsWith('allowed'));
  assert.ok(rules.length >= 5, [...found.keys()].join());
  assert.ok(found.size - rules.length >= 14, [...found.keys()].join());
});

/** Sends a request as a program does: to a host in absolute form, through CONNECT, or to the door's own address. */
async function ask(door: string, request: string): Promise<Seen> {
  const [method = '', where = ''] = request.split(' ');
  const earlier = path.requests().length;
  const { answer, issuer } =
    method === 'CONNECT'
      ? await openTunnel(door, where)
      : { answer: await askDoor(door, headOf(method, where)), issuer: undefined };
  if (issuer?.startsWith('Outrider ') === true) return LOOKED_INTO;
  const header = (name: string) =>
    new RegExp(`\\r\\n${name}: (\\S+)`, 'i').exec(answer)?.[1] ?? null;
  const reason = header('x-outrider-reason');
  // The name did not lead anywhere, so the policy had nothing more to say.
  if (reason !== null && reason !== 'dns_failed')
    return { verdict: 'deny', reason, rule: header('x-outrider-rule') };
  assert.match(answer, /^HTTP\/1\.1 (?:200|502) /, request);
  return recorded(earlier, method);
}

/** A CONNECT behind which each request is decided for itself: of it alone nothing is recorded. */
const LOOKED_INTO: Seen = { verdict: 'allow', reason: null, rule: 'that looks into TLS' };

function headOf(method: string, where: string): string {
  const host = /^http:\/\/([^/]*)/.exec(where)?.[1] ?? '127.0.0.1';
  return `${method} ${where} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
}

/** What the proxy's last record since then says; it may come a moment after the answer. */
async function recorded(since: number, method: string): Promise<Seen> {
  const record = await eventually(() =>
    path
      .requests()
      .slice(since)
      .findLast((one) => one['method'] === method),
  );
  const { verdict, reason, rule } = Object(record);
  // Of an address that is refused, the record still names the rule that allowed the name.
  if (verdict === 'deny') return { verdict, reason, rule: null };
  return { verdict: 'allow', reason: null, rule };
}

/** The same of the command, with the addresses that the names lead to. */
async function explained(request: string): Promise<Seen> {
  const name = Object.keys(NAMES).find((one) => request.includes(one));
  const addresses = Object.entries(NAMES).find(([one]) => one === name)?.[1] ?? [];
  const resolve = addresses.flatMap((address) => ['--resolve', address]);
  const { out } = await policyCommand(
    'explain',
    path.policies,
    '--role',
    'analyst',
    '--tenant',
    'local',
    '--request',
    request,
    ...resolve,
    '--json',
  );
  const { verdict, reason, rule, intercept } = Object(JSON.parse(out)).decision;
  if (intercept === true) return LOOKED_INTO;
  return { verdict, reason: reason ?? null, rule };
}

function randomRequest(random: (below: number) => number): string {
  const pick = (list: readonly string[]): string => list[random(list.length)] ?? '';
  const kind = random(10);
  if (kind < 2) return `${pick(METHODS)} ${pick(DATA)}`;
  if (kind < 4)
    return `CONNECT ${pick(HOSTS)}${pick([':443', ':443', ':443', ':8443', ':25', ':x'])}`;
  // Most of them should come near to a rule.
  const host = random(2) === 0 ? 'api.example.com' : pick(HOSTS);
  return `${pick(METHODS)} http://${host}${pick(PORTS)}${pick(PATHS)}`;
}

/** mulberry32: the same requests on every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
