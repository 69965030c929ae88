import type { Socket } from 'node:net';
import type { DatasourceTarget, HostTarget } from '#policies';
import { CheckedAddresses } from './addresses.ts';
import type { Caller } from './authority.ts';
import { type Prepared, type PreparedFrom, WHOLE_ANSWER } from './credential.ts';
import type { ExchangeRecord } from './exchange-record.ts';
import { type FlatHeaders, upstreamHeaders, valuesOf } from './headers.ts';
import type { Identity } from './identify.ts';
import type { OpenExchange } from './open-exchanges.ts';
import type { Parts } from './parts.ts';
import { assertBodyFits, type TakenPlace, takePlace } from './places.ts';
import type { UpstreamRoute } from './pools.ts';
import { createRedactor, type Redactor } from './redaction.ts';
import { authorizeUpstream, type Upstream } from './upstream.ts';

/** The head of a request, whichever version of HTTP carried it: names and values in turn. */
export interface RequestHead {
  readonly rawHeaders: readonly string[];
  /** What it came over. */
  readonly socket: Socket;
  readonly method?: string | undefined;
  /** The request target; absolute over HTTP/2. */
  readonly url?: string | undefined;
}

/** A request that both signatures and this proxy's own policy allow, with its place under the limits taken. */
export interface Admitted {
  readonly caller: Caller;
  readonly target: HostTarget | DatasourceTarget;
  readonly upstream: Upstream;
  readonly open: OpenExchange;
  readonly place: TakenPlace;
}

/** Who calls; a promise only where a token must be verified. @throws {OutriderError} UNAUTHENTICATED, ROLE_DENIED, POLICY_MISMATCH, AUDIT_UNAVAILABLE */
export function identified(
  parts: Parts,
  request: RequestHead,
  record: ExchangeRecord,
): Caller | Promise<Caller> {
  const { audit, authority, identifier } = parts;
  const called = (identity: Identity): Caller => {
    const caller = authority.callerOf(identity);
    record.calledBy(caller);
    return caller;
  };
  audit.assertWritable();
  const known = identifier.known(request);
  return known ? called(known) : identifier.identify(request).then(called);
}

/**
 * Decides, takes a place, and runs `send` while it holds it. The order is the protection: each step needs the one before.
 * @throws {OutriderError} EGRESS_DENIED, DATASOURCE_UNKNOWN, RATE_LIMITED, QUOTA_EXCEEDED, BODY_TOO_LARGE, and what `send` throws
 */
export async function admitted<T>(
  parts: Parts,
  caller: Caller,
  target: HostTarget | DatasourceTarget,
  { rawHeaders }: Pick<RequestHead, 'rawHeaders'>,
  record: ExchangeRecord,
  send: (allowed: Admitted) => Promise<T>,
): Promise<T> {
  record.aimedAt(target);
  const upstream = authorizeUpstream(caller, target, Date.now());
  record.allowedBy(upstream.decision);
  const { limits, rule } = upstream.decision;
  const { path, query } = target;
  const host = target.kind === 'host' ? target.host.text : '';
  const pathAndQuery = `${path.text}?${query ?? ''}`;
  parts.held.assertAbsent(caller.set, { host, pathAndQuery, rawHeaders }, rule);
  assertBodyFits(valuesOf(rawHeaders, 'content-length')[0], upstream.decision);
  // Before a place is waited for: what is no longer allowed then does not go out.
  const open = parts.open.begin(caller, target, limits);
  let place: TakenPlace | undefined;
  try {
    // Of what is allowed only, and before anything is asked or dialled.
    const taking = takePlace(parts, caller, target, upstream.decision);
    place = taking instanceof Promise ? await taking : taking;
    if (open.cutBy) throw open.cutBy;
    return await send({ caller, target, upstream, open, place });
  } finally {
    open.close();
    place?.release();
  }
}

/** Where an admitted request goes and what it says there. */
export interface Addressed
  extends Pick<
    Prepared,
    'path' | 'method' | 'inject' | 'transform' | 'announce' | 'abandonment' | 'onRejected'
  > {
  readonly route: UpstreamRoute;
  /** `Host` first. */
  readonly headers: FlatHeaders;
  /** Set where a credential was injected: it must not come back. */
  readonly redactor: Redactor | undefined;
  /** The first status whose answers are searched for it. */
  readonly redactsFrom: number;
}

/** The proof of a caller whose token is bound to a key: it is for this proxy. Any other is the program's own, for whom it calls. */
const OWN_PROOF = ['dpop'];

/**
 * Resolves the name, checks every address, and only then reads the secret and writes the head anew. A promise only where something must be
 * waited for.
 * @throws {OutriderError} EGRESS_DENIED, UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, CREDENTIAL_UNAVAILABLE, UNIMPLEMENTED
 */
export function addressed(
  parts: Parts,
  allowed: Admitted,
  inspected: PreparedFrom,
): Addressed | Promise<Addressed> {
  const { resolver } = parts;
  const { upstream } = allowed;
  const checked = (found: readonly Uint8Array[]): Addressed | Promise<Addressed> => {
    const addresses = CheckedAddresses.check(upstream.grant, found);
    const written = (prepared: Prepared) =>
      writtenAnew(allowed, prepared, addresses, inspected.rawHeaders);
    const preparing = upstream.prepare(parts, inspected);
    return preparing instanceof Promise ? preparing.then(written) : written(preparing);
  };
  const known = resolver.known(upstream.host);
  return known ? checked(known) : resolver.resolve(upstream.host).then(checked);
}

function writtenAnew(
  { caller, upstream }: Admitted,
  prepared: Prepared,
  addresses: CheckedAddresses,
  rawHeaders: readonly string[],
): Addressed {
  const { trust, signs, inject, secrets, strip } = prepared;
  const { credential, scheme, host, port } = upstream;
  const sendsCredential = (inject.length > 0 || secrets.length > 0) && !signs;
  const whole = sendsCredential ? WHOLE_ANSWER : { strip: [], inject: [] };
  const { keyThumbprint } = caller.identity.execution;
  return {
    ...prepared,
    route: { credential, scheme, host, port, addresses, trust },
    headers: upstreamHeaders(rawHeaders, {
      host: upstream.authority,
      anonymous: upstream.anonymous,
      strip: [...strip, ...whole.strip, ...(keyThumbprint === undefined ? [] : OWN_PROOF)],
      inject: [...inject, ...whole.inject],
    }),
    redactor: secrets.length > 0 ? createRedactor(secrets) : undefined,
    redactsFrom: signs ? 400 : 0,
  };
}
