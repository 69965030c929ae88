import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { accepts } from '#core/http';
import { publicIssuer, type SigningKey } from '#core/tokens';
import { readAudit, until } from '../support/mesh.ts';
import { signed } from './spoiled-tokens.ts';
import type { World } from './world.ts';

/** Of this issuer's users the role `fixture` is. Nobody listens there unless a case has somebody serve. */
export const ISSUER = 'http://127.0.0.1:8089';
const AUDIENCE = 'battery';
const LIFE_S = 600;

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

/** A second proxy of a mesh, which exchanges tokens of `ISSUER`. Whoever starts it ends it. */
export interface SecondProxy {
  readonly process: ChildProcess;
  readonly socket: string;
  /** Its records of an event so far. */
  readonly records: (event: 'auth' | 'request') => ReturnType<typeof readAudit>;
}

/** @throws {Error} with what it said where it does not start */
export async function startSecondProxy({ mesh, policies }: World): Promise<SecondProxy> {
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
  // Its socket is there a moment before anybody listens at it.
  let isUp = false;
  const answers = async () => {
    isUp = await accepts({ kind: 'unix', path: socket });
    return isUp || proxy.exitCode !== null;
  };
  await until('a second proxy listens', answers).catch(() => {});
  if (!isUp) {
    await ended(proxy);
    throw new Error(`a second proxy did not start: ${said}`);
  }
  const audit = join(state, 'audit', 'proxy.jsonl');
  return {
    process: proxy,
    socket,
    records: (wanted) => readAudit(audit).filter(({ event }) => event === wanted),
  };
}

/** Serves the public half of a key as those of `ISSUER`, in the mesh's network. */
export function serveKeys({ within }: World, key: SigningKey): ChildProcess {
  const keys = JSON.stringify({ keys: publicIssuer(key).keys });
  const argv: readonly string[] = [...within, '/usr/bin/python3', '-c', SERVES, keys];
  const [program = '', ...words] = argv;
  return spawn(program, words, { stdio: 'ignore' });
}

/** An access token of `ISSUER`, whose key that is. */
export function accessToken(key: SigningKey): string {
  const claims = { iss: ISSUER, aud: AUDIENCE, sub: 'alice', exp: Date.now() / 1_000 + LIFE_S };
  return signed(key, { alg: 'EdDSA', typ: 'at+jwt', kid: key.jwk.kid }, claims);
}

/** The request that exchanges an access token for one of the role `fixture` (RFC 8693), with further fields of its form and head. */
export function exchangeRequest(
  token: string,
  form: Readonly<Record<string, string>> = {},
  lines: readonly string[] = [],
): Buffer {
  const body = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    subject_token: token,
    scope: 'role:fixture',
    ...form,
  }).toString();
  const head = [
    'POST /.outrider/token HTTP/1.1',
    'Host: proxy',
    'Connection: close',
    'Content-Type: application/x-www-form-urlencoded',
    `Content-Length: ${body.length}`,
    ...lines,
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`);
}

/** Where `exchangeRequest` goes, for a proof. */
export const EXCHANGE_URI = 'http://proxy/.outrider/token';

export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}
