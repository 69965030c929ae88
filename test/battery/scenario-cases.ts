import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { readAnswers } from './answers.ts';
import { CaseUnusable } from './case.ts';
import { HARMS } from './harm-cases.ts';
import { clientHello } from './hello.ts';
import { frame, http2Preface, http2Request } from './http2.ts';
import { neighbourProblems, reasonProblems } from './neighbour.ts';
import { connectHead, exchanged, opened, type Reply, type Step } from './steps.ts';
import type { Seen, World } from './world.ts';

/** A flood of one kind, and what must be true of its end. */
interface Scenario {
  /** Each is one connection, or one crowd of them; all of one sandbox, one after the other. */
  readonly attacks: (description: string) => readonly (readonly Step[])[];
  /** What has to be said of the bound that was hit; a reason of the audit, or nothing where none is due. */
  readonly reasons: readonly string[];
  /** What else must hold. */
  readonly holds?: (replies: readonly Reply[]) => readonly string[];
}

const API = 'api.allowed.test:443';
const OWN = 'Host: api.allowed.test\r\n';
const DOOR = 'Host: 127.0.0.1:3128\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const PIPELINED = `GET http://api.allowed.test/v1/ok HTTP/1.1\r\n${OWN}\r\n`;
/** Longer than the time for a request head. */
const SLOW_MS = 13_000;
/** An attack is repeated for so long. */
const ATTACK_MS = 2_000;

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  headers_timeout: {
    attacks: () => [crowd(200, ['GET http://api.allowed.test/v1/ok HTTP/1.1\r\nX: '], SLOW_MS)],
    reasons: ['headers_timeout'],
    holds: ([reply]) =>
      reply?.crowd?.open === 0 ? [] : [`${reply?.crowd?.open} slow connections are still open`],
  },
  conn_limit: {
    attacks: () => [crowd(900, ['GET http'], 1_500), crowd(900, ['GET http'], 1_500, true)],
    reasons: ['conn_limit'],
    holds: (replies) =>
      replies.flatMap(({ crowd: seen }) =>
        (seen?.open ?? 900) <= 256 ? [] : [`${seen?.open} connections were open at once`],
      ),
  },
  header_too_large: {
    attacks: () => [
      [
        { connect: 'relay' },
        ...manyTimes(`GET http://api.allowed.test/v1/ok HTTP/1.1\r\n${OWN}`, 1),
        ...manyTimes('X-A: aaaaaaaaaaaaaaaaaaaaaaaa\r\n', 40_000),
        { read: { want: 1 } },
      ],
    ],
    reasons: ['header_too_large', 'too_many_headers'],
  },
  tunnel_limit: {
    attacks: () => [
      crowd(
        200,
        [`${connectHead('other.allowed.test:443')}${helloTo('other.allowed.test')}`],
        3_000,
      ),
    ],
    reasons: ['tunnel_limit'],
  },
  pipeline_limit: {
    attacks: () => [
      [{ connect: 'relay' }, ...manyTimes(PIPELINED, 10_000), { read: { want: 40 } }],
    ],
    reasons: ['pipeline_limit'],
  },
  h2_reset_flood: {
    attacks: (description) => [
      overHttp2(/server/i.test(description) ? provokedResets(3_000) : ownResets(3_000)),
    ],
    reasons: ['h2_reset_flood', 'h2_control_flood'],
  },
  h2_continuation: {
    attacks: () => [overHttp2(continuations(20_000))],
    reasons: ['h2_continuation', 'h2_control_flood'],
  },
  h2_hpack: {
    attacks: () => [overHttp2(hpackBomb()), overHttp2(brokenHpack())],
    reasons: ['h2_hpack', 'h2_control_flood', 'header_too_large'],
  },
  h2_control_flood: { attacks: () => [overHttp2(pings(100_000))], reasons: ['h2_control_flood'] },
  leaf_cache_bound: {
    attacks: () => [
      crowd(
        400,
        Array.from(
          { length: 400 },
          (_, at) => `${connectHead(`h${at}.wild.test:443`)}${helloTo(`h${at}.wild.test`)}`,
        ),
        4_000,
      ),
    ],
    reasons: [],
    holds: ([reply]) =>
      (reply?.crowd?.handshakes ?? 0) > 100 ? [] : ['almost no handshake was answered'],
  },
  body_too_large: {
    attacks: () => [
      [
        { connect: 'relay' },
        ...exchanged(
          `PUT /s3/data/tenantA/x HTTP/1.1\r\n${DOOR}Content-Length: 67108864\r\n\r\n`,
          1,
        ),
      ],
      [
        { connect: 'relay' },
        ...manyTimes(`POST /http/oauth/v1/items HTTP/1.1\r\n${DOOR}${CHUNKED}\r\n`, 1),
        ...manyTimes(`10000\r\n${'a'.repeat(65_536)}\r\n`, 1_024),
        { read: { want: 1 } },
      ],
    ],
    reasons: ['body_too_large'],
    holds: (replies) =>
      replies.flatMap((reply) =>
        statusOf(reply) === 413 ? [] : [`expected 413, seen ${statusOf(reply)}`],
      ),
  },
  decompression_limit: {
    attacks: () => {
      const bomb = gzipSync(Buffer.alloc(64 * 2 ** 20), { level: 9 });
      const type = 'Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n';
      const head = `POST /prometheus/main/api/v1/query HTTP/1.1\r\n${DOOR}${type}Content-Length: ${bomb.length}\r\n\r\n`;
      return [[{ connect: 'relay' }, ...exchanged(Buffer.concat([Buffer.from(head), bomb]), 1)]];
    },
    reasons: ['decompression_limit', 'encoded_body_forbidden'],
  },
  decision_abort: {
    attacks: () => [
      crowd(40, [PIPELINED, `${PIPELINED}${PIPELINED}`], 0),
      crowd(40, [connectHead(API)], 0),
    ],
    reasons: [],
    holds: (replies) =>
      replies.every(({ crowd: seen }) => seen?.connected === 40)
        ? []
        : ['not every connection was taken'],
  },
  limiter_fallback: {
    attacks: () => [
      [
        { connect: 'relay' },
        ...Array.from({ length: 40 }, (_, at): Step[] => [
          ...manyTimes(
            'GET http://limited.allowed.test/ HTTP/1.1\r\nHost: limited.allowed.test\r\n\r\n',
            1,
          ),
          { read: { want: at + 1, last: true } },
        ]).flat(),
      ],
    ],
    reasons: ['rate_limited', 'limiter_fallback'],
    holds: (replies) => {
      const answers = replies.flatMap(({ data }) => readAnswers(Buffer.from(data, 'base64')));
      const good = answers.filter(({ status }) => status === 200).length;
      const limited = answers.filter(({ status }) => status === 429);
      const untold = limited.filter(
        ({ headers }) => !headers.some(([name]) => name === 'retry-after'),
      );
      // A burst of 5, and one a second: the attack lasts seconds.
      return [
        ...(good >= 1 && good <= 15 ? [] : [`${good} of ${answers.length} requests were let out`]),
        ...untold.map(() => 'a 429 does not say when to come back').slice(0, 1),
      ];
    },
  },
  no_crash: {
    attacks: () =>
      HALVES.map((bytes) => [
        { connect: 'relay' },
        { send: Buffer.from(bytes, 'latin1').toString('base64') },
        { pause: 30 },
        { reset: true },
      ]),
    reasons: [],
  },
  tls_error: {
    attacks: () => [
      crowd(
        150,
        [
          `${connectHead(API)}\x16\x03\x01\xff\xff${'\0'.repeat(64)}`,
          `${connectHead(API)}${helloTo('api.allowed.test')}\x17\x03\x03\x00\x05hello`,
        ],
        2_000,
      ),
    ],
    reasons: ['protocol_mismatch', 'tls_error'],
  },
};

/** Documents that would make a loader slow or large. */
const DOCUMENTS: Readonly<Record<string, string>> = {
  regex_budget: policy('query: {q: "(a+)+$"}'),
  yaml_alias: `a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n${policy('')}`,
};

/**
 * What is wrong after the scenario. `p99Max`: for a neighbour meanwhile.
 * @throws {CaseUnusable} where nobody has built it
 */
export async function scenarioProblems(
  world: World,
  name: string,
  description: string,
  p99Max: number,
): Promise<readonly string[]> {
  const document = DOCUMENTS[name];
  if (document !== undefined) return refusedSoon(world, document);
  const harm = HARMS[name];
  if (harm) return harm(world, p99Max);
  const scenario = SCENARIOS[name];
  if (!scenario) throw new CaseUnusable('nobody has built the scenario');
  const seen: Seen[] = [];
  const attack = async (): Promise<void> => {
    const until = performance.now() + ATTACK_MS;
    do
      for (const steps of scenario.attacks(description))
        seen.push(await world.perform('fixture', steps, 30_000));
    while (performance.now() < until);
  };
  const disturbed = await neighbourProblems(world, attack, p99Max);
  const replies = seen.map(({ reply }) => reply);
  return [
    ...reasonProblems(seen, scenario.reasons),
    ...(scenario.holds?.(replies) ?? []),
    ...disturbed,
  ];
}

async function refusedSoon(world: World, document: string): Promise<readonly string[]> {
  const directory = join(world.policies, '..', `document-${process.hrtime.bigint()}`);
  mkdirSync(directory);
  writeFileSync(join(directory, 'policy.yaml'), document);
  const { code } = await world.mesh.outrider(['policy', 'check', directory], { timeoutMs: 10_000 });
  return code === 1 ? [] : [`expected a load error, seen exit ${code}`];
}

function policy(field: string): string {
  const rule = `{id: api, hosts: [api.allowed.test], methods: [GET], paths: any${field ? `, ${field}` : ''}}`;
  return `apiVersion: outrider/v1\nkind: EgressPolicy\nmetadata: {name: x}\nspec: {subjects: [{tenant: local}], mode: enforce, allow: [${rule}]}\n`;
}

function statusOf({ data }: Reply): number | undefined {
  return readAnswers(Buffer.from(data, 'base64'))[0]?.status;
}

function manyTimes(text: string, times: number): Step[] {
  return [{ send: Buffer.from(text, 'latin1').toString('base64'), times }];
}

function crowd(count: number, sends: readonly string[], holdMs: number, direct = false): Step[] {
  const bytes = sends.map((text) => Buffer.from(text, 'latin1').toString('base64'));
  return [{ crowd: { count, sends: bytes, holdMs, direct } }];
}

function helloTo(serverName: string): string {
  return clientHello({ serverName, ech: false, padding: 0 }).toString('latin1');
}

function overHttp2(frames: Buffer): Step[] {
  return [
    ...opened(connectHead(API)),
    { tls: { name: 'api.allowed.test', alpn: ['h2'] } },
    ...exchanged(frames, 0),
  ];
}

const FIELDS = [
  [':method', 'GET'],
  [':scheme', 'https'],
  [':authority', 'api.allowed.test'],
  [':path', '/v2/no'],
] as const;
const FLAGS = { endStream: 1, endHeaders: 4 } as const;

/** CVE-2023-44487. */
function ownResets(count: number): Buffer {
  return Buffer.concat([
    http2Preface(),
    ...streams(count, (id) => [
      http2Request(FIELDS, id),
      frame(3, 0, id, Buffer.from([0, 0, 0, 8])),
    ]),
  ]);
}

/** CVE-2025-8671: a window update of nothing makes the server reset the stream. */
function provokedResets(count: number): Buffer {
  return Buffer.concat([
    http2Preface(),
    ...streams(count, (id) => [http2Request(FIELDS, id), frame(8, 0, id, Buffer.alloc(4))]),
  ]);
}

function streams(count: number, frames: (id: number) => Buffer[]): Buffer[] {
  return Array.from({ length: count }, (_, at) => frames(2 * at + 1)).flat();
}

function continuations(count: number): Buffer {
  const part = Buffer.from('\0\x01x\x04aaaa', 'latin1');
  return Buffer.concat([
    http2Preface(),
    frame(1, FLAGS.endStream, 1, part),
    ...Array.from({ length: count }, () => frame(9, 0, 1, part)),
  ]);
}

/** One entry of 3 KiB in the table, and a thousand times its index. */
function hpackBomb(): Buffer {
  const entry = Buffer.concat([
    Buffer.from([0x40, 1, 0x78, 0x7f, 0xd9, 0x16]),
    Buffer.alloc(3_000, 'a'),
  ]);
  const block = Buffer.concat([entry, Buffer.alloc(1_000, 0xbe)]);
  return Buffer.concat([http2Preface(), frame(1, FLAGS.endStream | FLAGS.endHeaders, 1, block)]);
}

function brokenHpack(): Buffer {
  return Buffer.concat([
    http2Preface(),
    frame(1, FLAGS.endStream | FLAGS.endHeaders, 1, Buffer.alloc(64, 0xff)),
  ]);
}

function pings(count: number): Buffer {
  return Buffer.concat([
    http2Preface(),
    ...Array.from({ length: count }, (_, at) =>
      at % 2 ? frame(6, 0, 0, Buffer.alloc(8)) : frame(4, 0, 0, Buffer.alloc(0)),
    ),
  ]);
}

/** Where a program may break off. */
const HALVES = [
  'G',
  'GET http://api.allowed.test/v1/ok HTTP/1.1\r\n',
  `GET http://api.allowed.test/v1/ok HTTP/1.1\r\n${OWN}\r\n`,
  'POST /http/oauth/v1/items HTTP/1.1\r\nHost: 127.0.0.1:3128\r\nContent-Length: 100\r\n\r\nabc',
  'POST /http/oauth/v1/items HTTP/1.1\r\nHost: 127.0.0.1:3128\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab',
  connectHead(API),
  `${connectHead(API)}${helloTo('api.allowed.test')}`,
  `${connectHead('other.allowed.test:443')}${helloTo('other.allowed.test')}`,
  '\x05',
  '\x05\x01\x00\x05\x01\x00\x03',
];
