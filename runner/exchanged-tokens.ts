import { readFileSync, statSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request as requestTls } from 'node:https';
import { type Address, socketOptions } from '#core/address';
import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import { request as requestPlain } from '#core/node-http';
import type { ExecutionClaims, ExecutionSigner } from '#core/tokens';

/** Where execution tokens come from: the runner's own key, or a proxy that exchanges a user's access token. */
export type TokenSource = Pick<ExecutionSigner, 'sign'>;

export interface ExchangeOptions {
  readonly proxy: Address;
  /** What the sidecars show the proxy, too: the token is bound to it. PEM. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  /** Holds the user's access token; whoever renews it replaces the file. */
  readonly tokenFile: string;
}

const TOKEN_PATH = '/.outrider/token';
const TIMEOUT_MS = 10_000;
const ANSWER_MAX_BYTES = 65_536;

/**
 * Asks the proxy for each execution token in exchange for the user's access token (RFC 8693), which is read anew each time and goes
 * nowhere else: sidecar and sandbox get what is good at the proxy alone, for 60 s.
 */
export function exchangedTokens(options: ExchangeOptions): TokenSource {
  return {
    async sign(claims) {
      const askedAt = Date.now();
      const { status, body } = await post(options, formOf(claims, readToken(options.tokenFile)));
      const { access_token: jwt, expires_in: life } = body;
      if (status !== 200) throw refusal(status, body);
      if (typeof jwt !== 'string' || typeof life !== 'number')
        throw new OutriderError('UPSTREAM_LOST', 'the proxy did not answer as RFC 8693 wants it');
      return { jwt, expiresAt: new Date(askedAt + life * 1_000) };
    },
  };
}

/** @throws {OutriderError} CONFIG_INVALID where others may read it; UNAUTHENTICATED where there is none */
function readToken(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat && (stat.mode & 0o077) !== 0)
    throw new OutriderError(
      'CONFIG_INVALID',
      `the access token in runner.exchange.tokenFile can be read by others: chmod 600 it`,
    );
  const token = stat ? readFileSync(path, 'utf8').trim() : '';
  if (token === '')
    throw new OutriderError(
      'UNAUTHENTICATED',
      'there is no access token in runner.exchange.tokenFile: log in at the identity provider',
    );
  return token;
}

function formOf(claims: ExecutionClaims, subjectToken: string): string {
  const { sandboxId, execId, role, policyDigest, requestId, phase } = claims;
  return new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: subjectToken,
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    scope: `role:${role}`,
    sandbox: sandboxId,
    exec: execId,
    request: requestId,
    policy: policyDigest,
    ...(phase === undefined ? {} : { phase }),
  }).toString();
}

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

function post({ proxy, tls }: ExchangeOptions, form: string): Promise<Answer> {
  const where = proxy.kind === 'unix' ? { socketPath: proxy.path } : socketOptions(proxy);
  const request = tls && proxy.kind === 'tcp' ? requestTls : requestPlain;
  return new Promise((resolve, reject) => {
    const failed = (error: unknown): void =>
      reject(
        new OutriderError('UPSTREAM_UNREACHABLE', 'the proxy cannot be asked for a token', {
          cause: error,
        }),
      );
    const sent = request({
      ...where,
      ...tls,
      path: TOKEN_PATH,
      method: 'POST',
      timeout: TIMEOUT_MS,
      headers: {
        host: 'proxy',
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': Buffer.byteLength(form),
      },
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')));
    sent.on('error', failed);
    sent.on('response', (response) => void read(response).then(resolve, failed));
    sent.end(form);
  });
}

async function read(response: IncomingMessage): Promise<Answer> {
  let text = '';
  for await (const piece of response.setEncoding('utf8')) {
    text += String(piece);
    if (text.length > ANSWER_MAX_BYTES) throw new Error('the answer is too large');
  }
  const body: unknown = JSON.parse(text);
  return { status: response.statusCode ?? 0, body: isRecord(body) ? body : {} };
}

/** What the proxy says goes on in words of ours: it is about the user's own token. */
function refusal(status: number, { error, error_description: why }: Answer['body']): OutriderError {
  const cause = { status, error, why };
  if (error === 'invalid_scope')
    return new OutriderError('ROLE_DENIED', 'the proxy does not give this user the role', {
      cause,
    });
  if (error === 'invalid_request')
    return new OutriderError(
      'UNAUTHENTICATED',
      "the proxy does not take the user's access token: log in again at the identity provider",
      { cause },
    );
  return new OutriderError('UPSTREAM_UNREACHABLE', 'the proxy gives no tokens now', { cause });
}
