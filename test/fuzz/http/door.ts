import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { loadConfig } from '#core/config';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { type AllowRuleSpec, canonicalJson, compilePolicySet, projectRole } from '#policies';
import { SidecarServiceClient } from '#proto';
import { createSidecar, sidecarSpec } from '#sidecar';
import { datasource, documents, egress, role } from '../../../policies/fixture.ts';
import { attach } from '../../support/data-path.ts';
import type { Case } from './grammar.ts';
import { type Recorded, Recorder } from './recorder.ts';

/** What the door did with one request: sent it on, refused it and read on, or refused it and closed the connection. */
export type Answered =
  | { readonly kind: 'forwarded'; readonly recorded: Recorded }
  | { readonly kind: 'denied'; readonly status: number }
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'tunnel' };

export interface Told {
  readonly answers: readonly Answered[];
  /** Whether it closed the connection by itself. */
  readonly closed: boolean;
  /** How many of the requests were taken as plain, and so not read by llhttp. */
  readonly plain?: number;
}

export interface FuzzDoor {
  /** Sends one case, and resolves when the door has closed the connection or said nothing for so long. */
  readonly send: (one: Case, quietMs: number) => Promise<Told>;
  readonly stop: () => Promise<void>;
}

const ALLOW: readonly AllowRuleSpec[] = [
  {
    id: 'api',
    hosts: ['api.allowed.test', '*.wild.test'],
    scheme: 'http',
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    paths: 'any',
  },
  { id: 'metrics', datasource: 'prometheus/main', methods: ['GET', 'POST'], paths: 'any' },
];

/** A sidecar as it is shipped, in this process, its door open for one program; behind it a recorder. */
export async function openDoor(): Promise<FuzzDoor> {
  const directory = mkdtempSync(join(tmpdir(), 'o-fuzz-'));
  const door = join(directory, 'door.sock');
  const recorder = new Recorder();
  await recorder.listen(join(directory, 'proxy.sock'));
  const spec = sidecarSpec({ runtime: directory, state: directory });
  const config = loadConfig('sidecar', spec, { argv: [], env: {} });
  const sidecar = createSidecar(
    { ...config, exitWithAttachment: true },
    { log: silentLogger, metrics: new Metrics('sidecar') },
  );
  await sidecar.start();
  const socket = `unix:${join(directory, 'sidecar.sock')}`;
  const client = new SidecarServiceClient(socket, credentials.createInsecure());
  await attach(client, [
    {
      $case: 'open',
      value: {
        attachmentId: 'att-1',
        sandboxId: 'sbx-1',
        spoolPath: '',
        listen: { $case: 'unix', value: { path: door, controlPath: '' } },
      },
    },
    {
      $case: 'bind',
      value: {
        execId: 'exec-1',
        role: 'fuzzer',
        policy: policy(),
        policyDigest: DIGEST,
        token: { jwt: 'eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiJqIn0.c2ln', expiresAt: LATER },
        principal: { issuer: 'test', subject: 'someone', tenant: 'acme' },
        requestId: 'req-1',
        policyCommit: '',
        policySerial: 0n,
      },
    },
  ]);
  return {
    send: (one, quietMs) => send(door, recorder, one, quietMs),
    stop: async () => {
      client.close();
      await sidecar.stop();
      recorder.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

const DIGEST = 'd'.repeat(64);
const LATER = new Date(Date.now() + 86_400_000);

function policy(): Buffer {
  const about = { subjects: [{ role: 'fuzzer' }] };
  const set = documents({
    roles: [role('fuzzer')],
    egressPolicies: [egress('fuzz', ALLOW, [], about)],
    datasources: [datasource('prometheus', 'main', { endpoint: 'https://metrics.allowed.test' })],
  });
  return Buffer.from(canonicalJson(projectRole(compilePolicySet(set, DIGEST), 'fuzzer', 'acme')));
}

/** SOCKS5 to api.allowed.test, port 80 (RFC 1928), all at once; and how long its answers are. */
const SOCKS = `\x05\x01\0\x05\x01\0\x03\x10api.allowed.test\0\x50`;
const SOCKS_ANSWERS = 12;

function send(
  door: string,
  recorder: Recorder,
  { text, inside, heldBack = 0 }: Case,
  quietMs: number,
): Promise<Told> {
  return new Promise((resolve) => {
    const socket = connect({ path: door });
    let said = '';
    let closed = true;
    const give = setTimeout(() => {
      closed = false;
      socket.destroy();
    }, quietMs);
    const bytes = Buffer.from(inside ? SOCKS + text : text, 'latin1');
    const first = bytes.length - Math.min(heldBack, text.length);
    let isHeld = first < bytes.length;
    const goOn = (): void => {
      if (isHeld) socket.write(bytes.subarray(first));
      isHeld = false;
    };
    // What comes before may be no request, or half of one.
    const hold = setTimeout(goOn, quietMs / 2);
    socket.on('data', (chunk) => {
      said += chunk.toString('latin1');
      give.refresh();
      if (said.length > (inside ? SOCKS_ANSWERS : 0)) goOn();
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      clearTimeout(give);
      clearTimeout(hold);
      const answers = answersIn(inside ? said.slice(SOCKS_ANSWERS) : said, recorder);
      resolve({ answers, closed, plain: said.match(PLAIN)?.length ?? 0 });
    });
    socket.write(bytes.subarray(0, first));
  });
}

/** The server of plain requests writes its own names small, Node large. */
const PLAIN = /\r\nkeep-alive: timeout=/g;
/** No body of an answer holds such a line: the recorder's have none, and a refusal's is JSON. */
const ANSWER = /HTTP\/1\.1 (\d{3}) [^]*?\r\n\r\n/g;

function answersIn(said: string, recorder: Recorder): Answered[] {
  const answers: Answered[] = [];
  for (const [head, status] of said.matchAll(ANSWER)) {
    if (status === '100') continue;
    const seen = /\r\nx-seen: (\d+)\r\n/i.exec(head)?.[1];
    const recorded = seen === undefined ? undefined : recorder.take(Number(seen));
    if (recorded) answers.push({ kind: 'forwarded', recorded });
    else if (status === '200') answers.push({ kind: 'tunnel' });
    else {
      const kind = /\r\nconnection: close\r\n/i.test(head) ? 'refused' : 'denied';
      answers.push({ kind, status: Number(status) });
    }
  }
  return answers;
}
