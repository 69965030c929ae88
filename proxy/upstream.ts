import { OutriderError } from '#core/errors';
import {
  type AllowDecision,
  authorize,
  credentialOf,
  type DatasourceGrant,
  type DatasourceTarget,
  grantDatasource,
  type HostTarget,
  originForm,
  type Permit,
  REASONS,
  targetAuthority,
} from '#policies';
import type { Caller } from './authority.ts';
import { type BoundUpstream, boundUpstream } from './binding.ts';
import { PLAIN, type Prepared } from './credential.ts';
import { ADAPTERS } from './datasources/index.ts';
import { type DialledEndpoint, endpointOf } from './endpoint.ts';
import { denialOf, refused } from './refusal.ts';

/** Where an allowed request goes. Nothing is resolved and no secret read yet. */
export interface Upstream extends Omit<DialledEndpoint, 'basePath'>, BoundUpstream {
  readonly decision: AllowDecision;
  /** What the addresses are checked against. */
  readonly grant: Permit | DatasourceGrant;
  /** Names the connections that may be shared; empty for those without a credential. */
  readonly credential: string;
  /** Whether everything that names the caller is removed. */
  readonly anonymous: boolean;
}

/**
 * Decides, and finds where an allowed request goes.
 * @throws {OutriderError} EGRESS_DENIED, DATASOURCE_UNKNOWN
 */
export function authorizeUpstream(
  caller: Caller,
  target: HostTarget | DatasourceTarget,
  nowMs: number,
): Upstream {
  return target.kind === 'datasource'
    ? datasourceUpstream(caller, authorizeDatasource(caller, target, nowMs))
    : hostUpstream(caller, authorize(caller.policy, target, nowMs));
}

/**
 * One that there is and no rule grants is 403 and not 404: a name that is right must not look mistyped. The list of datasources does not
 * name it.
 */
function authorizeDatasource(
  { policy, set }: Caller,
  target: DatasourceTarget,
  nowMs: number,
): Permit<DatasourceTarget> {
  try {
    return authorize(policy, target, nowMs);
  } catch (error) {
    const named = set.datasources.has(`${target.type}/${target.name}`);
    if (!named || denialOf(error)?.reason !== 'alias_unknown') throw error;
    throw refused('EGRESS_DENIED', REASONS.datasource_denied.text, 'datasource_denied');
  }
}

function hostUpstream({ set }: Caller, permit: Permit<HostTarget>): Upstream {
  const { target, decision } = permit;
  const { credential } = decision;
  const binding = credential === null ? undefined : credentialOf(set, credential);
  if (credential !== null && !binding)
    throw refused(
      'CREDENTIAL_UNAVAILABLE',
      'the credential is not known',
      'credential_unavailable',
    );
  return {
    decision,
    grant: permit,
    scheme: target.scheme,
    host: target.host.text,
    port: target.port,
    authority: targetAuthority(target),
    credential: credential ?? '',
    anonymous: binding !== undefined,
    ...(binding ? boundUpstream(binding, set, permit) : unboundUpstream(target)),
  };
}

/** A request without a credential goes on as it came. */
function unboundUpstream(target: HostTarget): BoundUpstream {
  return {
    signs: false,
    body: 'goes',
    assertHead() {},
    prepare: (_parts, { query }) => ({ ...PLAIN, path: originForm({ ...target, query }) }),
  };
}

function datasourceUpstream({ set }: Caller, permit: Permit<DatasourceTarget>): Upstream {
  const { target, decision } = permit;
  const grant = grantDatasource(set, permit);
  if (!grant) throw new OutriderError('DATASOURCE_UNKNOWN', 'there is no such datasource');
  const adapter = ADAPTERS[target.type];
  const { spec } = grant.datasource;
  const { auth, secretRef, tls } = spec;
  const name = `${target.type}/${target.name}`;
  const hasCredential = secretRef !== undefined || tls?.clientCertificateRef !== undefined;
  return {
    decision,
    grant,
    ...endpointOf(spec.endpoint),
    credential: hasCredential ? `datasource:${name}` : '',
    anonymous: true,
    signs: spec.auth.type === 'sigv4',
    body: adapter.body(target),
    assertHead: (rawHeaders) =>
      adapter.assertHead?.({ spec, target, rawHeaders, nowMs: Date.now() }),
    prepare({ secrets, tokens, trusts }, { query, body, rawHeaders }) {
      const held = secretRef === undefined ? undefined : secrets.read(secretRef);
      const planWith = (token: string | undefined): Prepared => {
        const secret = token ?? held;
        const asked = { ...target, query };
        const planned = adapter.plan({
          spec,
          target: asked,
          secret,
          rawHeaders,
          body,
          nowMs: Date.now(),
        });
        return {
          ...PLAIN,
          ...planned,
          // A client's own secret is in no answer of this datasource by right either.
          secrets: token === undefined || held === undefined ? planned.secrets : [token, held],
          trust: trusts.of(tls, secrets),
          onRejected: () => (token === undefined ? undefined : tokens.forget(token)),
        };
      };
      return auth.type === 'oauth2' && held !== undefined
        ? tokens.token({ client: name, auth, clientSecret: held, grant }).then(planWith)
        : planWith(undefined);
    },
  };
}
