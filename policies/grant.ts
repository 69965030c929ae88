import { type Datasource } from './document.ts';
import { classifyIp } from './ip-class.ts';
import type { Permit } from './permit.ts';
import { credentialOf, datasourceOf, type PolicySet } from './policy-set.ts';
import type { Reason } from './reason.ts';
import type { Boundary } from './role-policy.ts';
import type { DatasourceTarget, HostTarget } from './target.ts';

/** A datasource that a permit opened, with its endpoint. Only `grantDatasource` makes it; only the proxy has any. */
export class DatasourceGrant {
  readonly datasource: Datasource;
  readonly #boundaries: readonly Boundary[];

  private constructor(datasource: Datasource, boundaries: readonly Boundary[]) {
    this.datasource = datasource;
    this.#boundaries = boundaries;
  }

  /** The same one for each of a datasource's permits, for as long as the set is. */
  static of(
    set: PolicySet,
    { target: { type, name } }: Permit<DatasourceTarget>,
  ): DatasourceGrant | undefined {
    const datasource = datasourceOf(set, type, name);
    if (!datasource) return undefined;
    let grants = GRANTS.get(set);
    if (!grants) GRANTS.set(set, (grants = new Map()));
    let grant = grants.get(datasource);
    if (!grant) grants.set(datasource, (grant = new DatasourceGrant(datasource, set.boundaries)));
    return grant;
  }

  static toProbe(set: PolicySet, key: string): DatasourceGrant | undefined {
    const datasource = set.datasources.get(key);
    return datasource && new DatasourceGrant(datasource, set.boundaries);
  }

  /**
   * Why `address` (16 bytes) must not be dialled as the endpoint; undefined where it may. Loopback and private addresses take
   * the Datasource's own word; that every Boundary consents was checked at load, range by range it is checked here.
   */
  addressRefusal(address: Uint8Array): Reason | undefined {
    const { allowLoopback, allowPrivate } = this.datasource.spec;
    if (this.#boundaries.some(({ neverCidrs }) => neverCidrs.has(address)))
      return 'resolved_ip_forbidden';
    const consented = () =>
      this.#boundaries.length > 0 &&
      this.#boundaries.every(({ mayPrivate }) => mayPrivate.has(address));
    const kind = classifyIp(address);
    const may =
      kind === 'public' ||
      (kind === 'loopback' && allowLoopback === true) ||
      (kind === 'private' && allowPrivate === true && consented());
    return may ? undefined : 'resolved_ip_forbidden';
  }
}

/** The token endpoint of a CredentialBinding that a permit opened. Only `grantTokenEndpoint` makes it. */
export class TokenEndpointGrant {
  readonly #boundaries: readonly Boundary[];

  private constructor(boundaries: readonly Boundary[]) {
    this.#boundaries = boundaries;
  }

  static of(set: PolicySet, { decision }: Permit<HostTarget>): TokenEndpointGrant | undefined {
    const binding =
      decision.credential === null ? undefined : credentialOf(set, decision.credential);
    return binding && 'oauth2' in binding.spec.inject
      ? new TokenEndpointGrant(set.boundaries)
      : undefined;
  }

  /** Why `address` (16 bytes) must not be dialled as the endpoint; undefined where it may: it is public, and no Boundary forbids it. */
  addressRefusal(address: Uint8Array): Reason | undefined {
    const never = this.#boundaries.some(({ neverCidrs }) => neverCidrs.has(address));
    return never || classifyIp(address) !== 'public' ? 'resolved_ip_forbidden' : undefined;
  }
}

const GRANTS = new WeakMap<PolicySet, Map<Datasource, DatasourceGrant>>();

/** The datasource that the permit is for; undefined where this set has none of that name. */
export function grantDatasource(
  set: PolicySet,
  permit: Permit<DatasourceTarget>,
): DatasourceGrant | undefined {
  return DatasourceGrant.of(set, permit);
}

/** Where the tokens of the permit's credential come from; undefined where it has none that is fetched. */
export function grantTokenEndpoint(
  set: PolicySet,
  permit: Permit<HostTarget>,
): TokenEndpointGrant | undefined {
  return TokenEndpointGrant.of(set, permit);
}

/** The datasource `type/name`, to see whether its endpoint is there: for connecting and nothing more. A request takes a permit. */
export function probeGrant(set: PolicySet, key: string): DatasourceGrant | undefined {
  return DatasourceGrant.toProbe(set, key);
}

/** Why `address` (16 bytes, as `parseIp` gives them) must not be dialled for the permit or grant; undefined where it may. */
export function addressRefusal(
  subject: Permit | DatasourceGrant | TokenEndpointGrant,
  address: Uint8Array,
): Reason | undefined {
  return subject.addressRefusal(address);
}
