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
  targetAuthority,
} from '#policies';
import type { Caller } from './authority.ts';
import { type Injection, injectionOf, NO_INJECTION } from './credential.ts';
import { ADAPTERS } from './datasources/index.ts';
import { refused } from './refusal.ts';
import type { Secrets } from './secrets.ts';

/** Where an allowed request goes. Nothing is resolved and no secret read yet. */
export interface Upstream {
  readonly decision: AllowDecision;
  /** What the addresses are checked against. */
  readonly grant: Permit | DatasourceGrant;
  readonly scheme: 'http' | 'https';
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
  /** The value of `Host`. */
  readonly authority: string;
  /** Names the connections that may be shared; empty for those without a credential. */
  readonly credential: string;
  /** Whether everything that names the caller is removed. */
  readonly anonymous: boolean;
  /**
   * The rest of the request, with its secret read: to be called when the addresses have been checked. `query` is the one that
   * inspection left.
   * @throws {OutriderError} CREDENTIAL_UNAVAILABLE, UNIMPLEMENTED
   */
  readonly prepare: (
    secrets: Secrets,
    query: string | null,
  ) => Injection & { readonly path: string };
}

/**
 * Decides, and finds where an allowed request goes.
 * @throws {OutriderError} EGRESS_DENIED, DATASOURCE_UNKNOWN, UNIMPLEMENTED
 */
export function authorizeUpstream(
  caller: Caller,
  target: HostTarget | DatasourceTarget,
  nowMs: number,
): Upstream {
  return target.kind === 'datasource'
    ? datasourceUpstream(caller, authorize(caller.policy, target, nowMs))
    : hostUpstream(caller, authorize(caller.policy, target, nowMs));
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
    prepare: (secrets, query) => ({
      path: originForm({ ...target, query }),
      ...(binding ? injectionOf(binding, secrets) : NO_INJECTION),
    }),
  };
}

function datasourceUpstream({ set }: Caller, permit: Permit<DatasourceTarget>): Upstream {
  const { target, decision } = permit;
  const grant = grantDatasource(set, permit);
  if (!grant) throw new OutriderError('DATASOURCE_UNKNOWN', 'there is no such datasource');
  const { assertSpoken, plan } = ADAPTERS[target.type];
  assertSpoken();
  const { spec } = grant.datasource;
  const { secretRef } = spec;
  return {
    decision,
    grant,
    ...endpointOf(spec.endpoint),
    credential: secretRef === undefined ? '' : `datasource:${target.type}/${target.name}`,
    anonymous: true,
    prepare: (secrets, query) => ({
      strip: [],
      ...plan(
        spec,
        { ...target, query },
        secretRef === undefined ? undefined : secrets.read(secretRef),
      ),
    }),
  };
}

/** An endpoint's URL, the operator's and not a caller's, taken apart. */
function endpointOf(endpoint: string): Pick<Upstream, 'scheme' | 'host' | 'port' | 'authority'> {
  const url = new URL(endpoint);
  const scheme = url.protocol === 'https:' ? 'https' : 'http';
  const port = url.port === '' ? { http: 80, https: 443 }[scheme] : Number(url.port);
  return { scheme, host: url.hostname.replace(/^\[|\]$/g, ''), port, authority: url.host };
}
