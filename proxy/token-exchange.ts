import { type OutriderError, toOutriderError } from '#core/errors';
import { answerJson } from '#core/http';
import type { HttpRequest, HttpResponse } from '#core/http-exchange';
import { newId, requestIdFrom } from '#core/ids';
import type { Principal } from '#core/principal';
import {
  AssertionSigner,
  AssertionVerifier,
  type Bound,
  ExecutionSigner,
  publicIssuer,
  type SigningKey,
  TOKEN_LIFE_S,
} from '#core/tokens';
import { type Reason, rolesOf } from '#policies';
import { statusOf } from './answer.ts';
import type { ProxyAudit } from './audit.ts';
import type { PolicySource } from './authority.ts';
import { channelOf } from './channel.ts';
import type { ProofsOfKeys } from './dpop.ts';
import { valuesOf } from './headers.ts';
import type { IssuerVerifier } from './issuers/issuer-token.ts';
import { denialOf, refused } from './refusal.ts';

/** The issuer of tokens that were exchanged here. */
export const EXCHANGE_ISSUER = 'outrider:exchange';
export const TOKEN_PATH = '/.outrider/token';

const GRANT = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_TYPE = 'urn:ietf:params:oauth:token-type:jwt';
const SUBJECT_TYPES = new Set([JWT_TYPE, 'urn:ietf:params:oauth:token-type:access_token']);
const AUDIENCE = 'outrider:proxy';
/** A token of 16 KiB, form-encoded, and the few others. */
const BODY_MAX_BYTES = 65_536;

export interface TokenExchangeDeps {
  readonly issuers: IssuerVerifier;
  readonly policies: PolicySource;
  readonly key: SigningKey;
  readonly audit: ProxyAudit;
  readonly keyProofs: ProofsOfKeys;
  /** What a token for one request calls this proxy, which alone takes it. */
  readonly proxyId: string;
  readonly onExchanged?: (result: 'ok' | 'refused') => void;
}

/** Answers `POST /.outrider/token`. Never rejects. */
export type TokenExchange = (request: HttpRequest, response: HttpResponse) => Promise<void>;

/**
 * Exchanges an access token of a configured identity provider for an execution token (RFC 8693), so that what a user may do elsewhere
 * stays with the runner or the command line that asks: the sidecar and the sandbox get a token of 60 s that is good here alone, for one
 * role of the user's. `scope` is `role:NAME`, needed where there are several; `sandbox`, `exec`, `policy`, `request` and `phase` go into the
 * token as they are asked for. Over TLS the token is bound to the client's certificate, with a proof in `DPoP` to the key of that
 * (RFC 9449, 5); with `once` it is for one request.
 */
export function createTokenExchange(deps: TokenExchangeDeps): TokenExchange {
  const assertions = new AssertionSigner(deps.key);
  const proofs = new AssertionVerifier([publicIssuer(deps.key)]);
  const executions = new ExecutionSigner(deps.key);
  const { onExchanged = () => {} } = deps;

  const grant = async (request: HttpRequest, known: Known): Promise<Granted> => {
    deps.audit.assertWritable();
    const asked = (known.asked = parse(await formOf(request)));
    const { principal, bound, mayCall } = await deps.issuers.verify(asked.subjectToken);
    known.principal = principal;
    if (!mayCall)
      throw refused('ROLE_DENIED', 'the caller is in none of the groups that may', 'role_denied');
    assertChannel(bound, request);
    const role = roleOf(deps.policies, principal, asked);
    // Of a caller who is known: others' proofs would take the place that there is for remembering them.
    const needsProof =
      bound.keyThumbprint !== undefined || valuesOf(request.rawHeaders, 'dpop').length > 0;
    const keyThumbprint = needsProof ? await deps.keyProofs.verify(request, bound) : undefined;
    const { proof } = await proofs.verify(await assertions.sign(principal, { role }));
    const { policyDigest, sandboxId, execId, requestId, phase } = asked;
    const { jwt } = await executions.sign({
      sandboxId,
      execId,
      role,
      policyDigest: policyDigest ?? deps.policies.current.set.digest,
      proof,
      startedAt: Math.floor(Date.now() / 1_000),
      requestId,
      phase,
      certificateThumbprint: channelOf(request),
      keyThumbprint,
      once: asked.once ? deps.proxyId : undefined,
    });
    const type = keyThumbprint === undefined ? 'Bearer' : 'DPoP';
    return { jwt, type, role };
  };

  return async (request, response) => {
    const known: Known = {};
    try {
      const { jwt, type, role } = await grant(request, known);
      deps.audit.record({
        event: 'auth',
        verdict: 'allow',
        ...recordOf(known),
        role,
        detail: 'an access token was exchanged',
      });
      onExchanged('ok');
      answerJson(
        response,
        200,
        {
          access_token: jwt,
          issued_token_type: JWT_TYPE,
          token_type: type,
          expires_in: TOKEN_LIFE_S,
          scope: `role:${role}`,
        },
        { pragma: 'no-cache' },
      );
    } catch (thrown) {
      onExchanged('refused');
      answer(response, recorded(deps.audit, known, toOutriderError(thrown)));
    }
  };
}

/**
 * An access token that is bound is none of a bearer's for an exchange either, or whoever stole it would get one that is bound to nothing.
 * @throws {OutriderError} UNAUTHENTICATED
 */
function assertChannel({ certificateThumbprint }: Bound, request: HttpRequest): void {
  if (certificateThumbprint !== undefined && certificateThumbprint !== channelOf(request))
    throw refused(
      'UNAUTHENTICATED',
      'the access token is bound to another connection',
      'jwt_cnf_mismatch',
    );
}

interface Granted {
  readonly jwt: string;
  readonly type: 'Bearer' | 'DPoP';
  readonly role: string;
}

/** What has been found out of an exchange, also of one that is refused then. */
interface Known {
  asked?: Asked;
  principal?: Principal;
}

interface Asked {
  readonly subjectToken: string;
  readonly role: string;
  readonly sandboxId: string;
  readonly execId: string;
  readonly requestId: string;
  readonly policyDigest: string | undefined;
  readonly phase: 'install' | undefined;
  readonly once: boolean;
}

/** @throws {OutriderError} INVALID_REQUEST, which names the parameter */
function parse(form: URLSearchParams): Asked {
  const one = (name: string): string => {
    const values = form.getAll(name);
    if (values.length > 1) throw invalid(`${name} is given more than once`);
    return values[0] ?? '';
  };
  const id = (name: string, otherwise: string): string => {
    const value = one(name) || otherwise;
    if (!/^[A-Za-z0-9-]{1,64}$/.test(value)) throw invalid(`${name} is 1 to 64 of [A-Za-z0-9-]`);
    return value;
  };
  if (one('grant_type') !== GRANT) throw invalid(`grant_type must be ${GRANT}`);
  if (!SUBJECT_TYPES.has(one('subject_token_type')))
    throw invalid(`subject_token_type must be one of ${[...SUBJECT_TYPES].join(', ')}`);
  if (!['', JWT_TYPE].includes(one('requested_token_type')))
    throw invalid(`requested_token_type must be ${JWT_TYPE}`);
  if (!['', AUDIENCE].includes(one('audience'))) throw invalid(`audience must be ${AUDIENCE}`);
  if (form.has('actor_token')) throw invalid('actor_token is not taken');
  if (one('subject_token') === '') throw invalid('subject_token is missing');
  const scope = one('scope');
  const role = /^(?:role:([\w.-]{1,128}))?$/.exec(scope);
  if (!role) throw invalid('scope must be role:NAME');
  const policy = one('policy');
  if (policy !== '' && !/^[0-9a-f]{64}$/.test(policy)) throw invalid('policy is a SHA-256 in hex');
  const phase = one('phase');
  if (phase !== '' && phase !== 'install') throw invalid('phase is install or absent');
  const once = one('once');
  if (once !== '' && once !== 'true') throw invalid('once is true or absent');
  return {
    subjectToken: one('subject_token'),
    role: role[1] ?? '',
    sandboxId: id('sandbox', newId('sbx')),
    execId: id('exec', newId('exec')),
    requestId: requestIdFrom(one('request') || undefined),
    policyDigest: policy || undefined,
    phase: phase || undefined,
    once: once === 'true',
  };
}

/** @throws {OutriderError} ROLE_DENIED, ROLE_AMBIGUOUS, POLICY_MISMATCH */
function roleOf(policies: PolicySource, principal: Principal, { role, policyDigest }: Asked) {
  const decider = policyDigest === undefined ? undefined : policies.ofDigest(policyDigest);
  const names = rolesOf((decider ?? policies.current).set, principal, Date.now());
  const [only] = names;
  if (role === '' && names.length > 1)
    throw refused(
      'ROLE_AMBIGUOUS',
      'several roles are yours: ask for scope role:NAME',
      'role_denied',
    );
  const chosen = role === '' ? only : names.find((name) => name === role);
  if (chosen === undefined)
    throw refused('ROLE_DENIED', 'the role is not one of the principal', 'role_denied');
  return chosen;
}

async function formOf(request: HttpRequest): Promise<URLSearchParams> {
  if (request.method !== 'POST')
    throw refused('METHOD_NOT_ALLOWED', 'tokens are exchanged with POST', 'method_not_allowed');
  const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== 'application/x-www-form-urlencoded')
    throw invalid('the content type must be application/x-www-form-urlencoded');
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of request) {
    const bytes = Buffer.from(piece);
    size += bytes.length;
    if (size > BODY_MAX_BYTES) throw invalid(`a request has at most ${BODY_MAX_BYTES} bytes`);
    pieces.push(bytes);
  }
  return new URLSearchParams(Buffer.concat(pieces).toString('utf8'));
}

function invalid(message: string): OutriderError {
  return refused('INVALID_REQUEST', message, 'jwt_invalid');
}

/** Whose exchange it is, and for what. */
function recordOf({ asked, principal }: Known) {
  return {
    issuer: principal?.issuer,
    subject: principal?.subject,
    tenant: principal?.tenant,
    requestId: asked?.requestId,
    sandboxId: asked?.sandboxId,
    execId: asked?.execId,
  };
}

/** Refusals are recorded, too; that the audit cannot be written goes before anything else. */
function recorded(audit: ProxyAudit, known: Known, error: OutriderError): OutriderError {
  try {
    audit.record({
      event: 'auth',
      verdict: 'deny',
      ...recordOf(known),
      code: error.code,
      reason: denialOf(error)?.reason,
      detail: 'an access token was not exchanged',
    });
    return error;
  } catch (unwritable) {
    return toOutriderError(unwritable);
  }
}

/** As RFC 6749 5.2, RFC 8693 2.2.2 and RFC 9449 5 want errors. */
function answer(response: HttpResponse, error: OutriderError): void {
  const reason = denialOf(error)?.reason;
  const status = error.code === 'UNAUTHENTICATED' ? 400 : statusOf(error);
  answerJson(
    response,
    status,
    { error: oauthError(error, status, reason), error_description: error.message },
    {
      pragma: 'no-cache',
      'x-outrider-error': error.code,
      ...(status === 405 ? { allow: 'POST' } : {}),
      ...(reason === undefined ? {} : { 'x-outrider-reason': reason }),
      ...(error.retryAfterMs === undefined
        ? {}
        : { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfterMs / 1_000))) }),
    },
  );
}

function oauthError({ code }: OutriderError, status: number, reason: Reason | undefined): string {
  if (reason === 'jwt_dpop_mismatch' || reason === 'jwt_dpop_replay') return 'invalid_dpop_proof';
  if (code === 'ROLE_DENIED' || code === 'ROLE_AMBIGUOUS') return 'invalid_scope';
  if (status === 503) return 'temporarily_unavailable';
  return status >= 500 ? 'server_error' : 'invalid_request';
}
