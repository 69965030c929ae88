import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { generateSigningKey, publicIssuer } from '#core/tokens';
import { readAudit, until } from '../support/mesh.ts';
import { type Case, numberOf } from './case.ts';
import { type Families, type Outcome, outcomeOf, problemsOf, saw } from './judge.ts';
import { callProxy } from './proxy-door.ts';
import { signed } from './spoiled-tokens.ts';
import type { World } from './world.ts';

/** Of this issuer's users the role `fixture` is. Nobody listens there until the end. */
const ISSUER = 'http://127.0.0.1:8089';
const AUDIENCE = 'battery';
/** A bound on time is about what the proxy does: of so many tries on a busy machine the last counts. */
const TRIES = 3;

/** Serves its argument, whatever it is asked for. */
const SERVES = `
import http.server, sys
class Serves(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
    def log_message(self, *said):
        pass
http.server.HTTPServer(("127.0.0.1", 8089), Serves).serve_forever()
`;

/**
 * A second proxy of the mesh, which starts while the keys of an identity provider cannot be had: it answers that it cannot know, and takes
 * the same token when they can.
 */
export async function issuerAwayProblems(
  world: World,
  one: Case,
  families: Families,
): Promise<readonly string[]> {
  const key = generateSigningKey(ISSUER);
  const { proxy, socket, audit } = await startProxy(world);
  const children = [proxy];
  try {
    const claims = { iss: ISSUER, aud: AUDIENCE, sub: 'alice', exp: Date.now() / 1_000 + 600 };
    const token = signed(key, { alg: 'EdDSA', typ: 'at+jwt', kid: key.jwk.kid }, claims);
    const exchanged = async () => outcomeAt(socket, token, audit);
    const most = numberOf(one.expect, 'time_ms_max') ?? Number.POSITIVE_INFINITY;
    let outcome = await exchanged();
    for (let at = 1; at < TRIES && outcome.seen.reply.ms > most; at += 1)
      outcome = await exchanged();
    const problems = problemsOf(one, outcome, families);
    const keys = JSON.stringify({ keys: publicIssuer(key).keys });
    children.push(spawnedWithin(world, ['/usr/bin/python3', '-c', SERVES, keys]));
    let last = saw(outcome);
    const taken = async (): Promise<boolean> => {
      const { statuses, ...rest } = await exchanged();
      last = saw({ statuses, ...rest });
      return statuses[0] === 200;
    };
    await until('the keys are there', taken).catch(() => {
      problems.push(`when the keys can be had the token is refused, too: ${last}`);
    });
    if (proxy.exitCode !== null) problems.push('the proxy has ended');
    return problems.map((problem) => `${problem} (${saw(outcome)})`);
  } finally {
    await Promise.all(children.map(ended));
  }
}

async function startProxy({ mesh, policies }: World) {
  const state = join(mesh.directory, `second-${process.hrtime.bigint()}`);
  mkdirSync(state, { mode: 0o700 });
  const socket = join(state, 'proxy.sock');
  const proxy = mesh.start(['proxy'], {
    env: {
      OUTRIDER_STATE_DIR: state,
      OUTRIDER_PROXY_LISTEN: `unix:${socket}`,
      OUTRIDER_PROXY_ADMIN: '127.0.0.1:0',
      OUTRIDER_PROXY_POLICIES: policies,
      OUTRIDER_PROXY_ISSUERS: `[{issuer: "${ISSUER}", jwks: "${ISSUER}/keys", audience: ${AUDIENCE}, jwksCooldown: 100ms}]`,
    },
  });
  let said = '';
  proxy.stderr?.on('data', (piece: Buffer) => (said += piece.toString()));
  proxy.stdout?.resume();
  const up = () => existsSync(socket) || proxy.exitCode !== null;
  await until('a second proxy listens', up).catch(() => {});
  if (!existsSync(socket)) {
    await ended(proxy);
    throw new Error(`a second proxy did not start: ${said}`);
  }
  return { proxy, socket, audit: join(state, 'audit', 'proxy.jsonl') };
}

function spawnedWithin({ within }: World, argv: readonly string[]): ChildProcess {
  const [program = '', ...words]: readonly string[] = [...within, ...argv];
  return spawn(program, words, { stdio: 'ignore' });
}

/** Of one exchange (RFC 8693), with the record that it left. */
async function outcomeAt(socket: string, token: string, audit: string): Promise<Outcome> {
  const body = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    subject_token: token,
    scope: 'role:fixture',
  }).toString();
  const head = [
    'POST /.outrider/token HTTP/1.1',
    'Host: proxy',
    'Connection: close',
    'Content-Type: application/x-www-form-urlencoded',
    `Content-Length: ${body.length}`,
  ];
  const before = exchangesIn(audit).length;
  const reply = await callProxy(socket, Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`));
  const proxy = exchangesIn(audit).slice(before);
  const plan = {
    mode: 'exchange',
    form: 'http',
    native: true,
    past: 'sidecar',
    steps: [],
  } as const;
  return outcomeOf(plan, { reply, sightings: [], sidecar: [], proxy });
}

function exchangesIn(audit: string) {
  return readAudit(audit).filter(({ event }) => event === 'auth');
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}
