import { checkDatasourceAuth } from './check-datasource-auth.ts';
import type { Checked } from './checked.ts';
import type { Boundary, Datasource } from './document.ts';
import { type Endpoint, parseEndpoint } from './endpoint.ts';
import { FORBIDDEN_NAMES, isLocalName, matchesHost, parseHostPattern } from './host-pattern.ts';
import { inCidr, parseCidr } from './ip.ts';
import { classifyIp } from './ip-class.ts';
import { aliasHost } from './target.ts';

/**
 * Where a datasource may be. Loopback and private addresses take the operator's word in the document and every Boundary's
 * consent; what a name resolves to is checked again when it is dialled.
 */
export function checkDatasource(
  { document, report }: Checked<Datasource>,
  boundaries: readonly Boundary[],
): void {
  const { metadata, spec } = document;
  const alias = aliasHost(spec.type, metadata.name).split('.')[0] ?? '';
  if (alias.length > 63 || alias.endsWith('-')) {
    report(
      ['metadata', 'name'],
      `"${alias}" must be one label of a host name: at most 63 letters, none of them a dash at the end`,
    );
  }
  const endpoint = parseEndpoint(spec.endpoint);
  if (typeof endpoint === 'string') return report(['spec', 'endpoint'], endpoint);
  checkDatasourceAuth(spec, report);
  if (
    spec.allowLoopback === true &&
    !consents(boundaries, ({ spec: { mayLoopbackDatasources } }) => mayLoopbackDatasources === true)
  ) {
    report(
      ['spec', 'allowLoopback'],
      'this takes the consent of every Boundary (`mayLoopbackDatasources: true`), and at least one',
    );
  }
  if (
    spec.allowPrivate === true &&
    !consents(boundaries, (boundary) => (boundary.spec.mayPrivate ?? []).length > 0)
  ) {
    report(
      ['spec', 'allowPrivate'],
      'this takes the consent of every Boundary (`mayPrivate`), and at least one',
    );
  }
  const problem = endpointProblem(endpoint, spec, boundaries);
  if (problem !== undefined) report(['spec', 'endpoint'], problem);
}

/** Why something must not be at an endpoint; undefined where it may. */
export function endpointProblem(
  { host }: Endpoint,
  { allowLoopback, allowPrivate }: Pick<Datasource['spec'], 'allowLoopback' | 'allowPrivate'>,
  boundaries: readonly Boundary[],
): string | undefined {
  const never = boundaries.find(({ spec }) =>
    (spec.neverHosts ?? []).some((text) => names(text, host.text)),
  );
  if (never) return `the Boundary "${never.metadata.name}" never allows this host`;
  if (FORBIDDEN_NAMES.includes(host.text)) return 'this host is never reachable';
  if (!host.ip) {
    return isLocalName(host) && allowLoopback !== true
      ? 'this is loopback: say `allowLoopback: true`'
      : undefined;
  }
  const { ip } = host;
  const excluded = boundaries.find(({ spec }) =>
    (spec.neverCidrs ?? []).some((text) => holds(text, ip)),
  );
  if (excluded) return `the Boundary "${excluded.metadata.name}" never allows this address`;
  const kind = classifyIp(ip);
  if (kind === 'public') return undefined;
  if (kind === 'loopback')
    return allowLoopback === true ? undefined : 'this is loopback: say `allowLoopback: true`';
  if (kind !== 'private') return `this address is ${kind}: nothing reaches it`;
  if (allowPrivate !== true) return 'this address is private: say `allowPrivate: true`';
  return consents(boundaries, ({ spec }) => (spec.mayPrivate ?? []).some((text) => holds(text, ip)))
    ? undefined
    : 'no Boundary, or not every one, lists this address in `mayPrivate`';
}

/** Without a Boundary there is nobody to consent. */
function consents(boundaries: readonly Boundary[], does: (boundary: Boundary) => boolean): boolean {
  return boundaries.length > 0 && boundaries.every(does);
}

/** Whether a host is one of those that a pattern of a document names. */
export function names(pattern: string, host: string): boolean {
  const parsed = parseHostPattern(pattern);
  return typeof parsed !== 'string' && matchesHost(parsed, host);
}

function holds(cidr: string, ip: Uint8Array): boolean {
  const parsed = parseCidr(cidr);
  return parsed !== undefined && inCidr(ip, parsed);
}
