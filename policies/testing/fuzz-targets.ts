import { queryParameters } from '../path.ts';
import { requestTarget } from '../request-line.ts';
import { type Target, targetAuthority } from '../target.ts';
import type { Findings } from './findings.ts';
import { Random } from './random.ts';
import { type ReferenceTarget, referenceTarget } from './reference-target.ts';
import { randomRequest } from './targets.ts';

/** Canonicalisation against the reference, and against what Node's URL makes of whatever is accepted. */
export function fuzzTargets(cases: number, seed: number): Findings {
  const random = new Random(seed);
  const differences: string[] = [];
  const seen = new Map<string, number>();
  for (let i = 0; i < cases; i++) {
    const text = randomRequest(random);
    const found = requestTarget(text);
    const [ours, theirs] = [
      found.ok ? textOf(found.target) : '',
      referenceText(referenceTarget(text)),
    ];
    if (ours !== theirs) differences.push(`${JSON.stringify(text)}: ${ours} is not ${theirs}`);
    if (found.ok) differences.push(...disagreements(found.target));
    const kind = found.ok ? found.target.kind : found.reason;
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
  }
  return { cases, differences, seen };
}

function textOf(target: Target): string {
  if (target.kind === 'tunnel') return `tunnel ${target.host.text} ${target.port}`;
  const { method, path, query, protocol } = target;
  const request = `${protocol} ${method} ${path.text}${query === null ? '' : `?${query}`}`;
  if (target.kind === 'datasource') return `${target.type}/${target.name} ${request}`;
  return `${target.scheme} ${target.host.text} ${target.port} ${request}`;
}

function referenceText(target: ReferenceTarget | undefined): string {
  if (!target) return '';
  if (target.kind === 'tunnel') return `tunnel ${target.host} ${target.port}`;
  if (target.kind === 'datasource') return `${target.ref} ${target.request}`;
  return `${target.scheme} ${target.host} ${target.port} ${target.request}`;
}

/** What other readers see in the canonical spelling must be what was decided on. */
function disagreements(target: Target): string[] {
  if (target.kind === 'tunnel') return [];
  const found: string[] = [];
  const { path, query } = target;
  if (target.kind === 'host') {
    const url = new URL(`${target.scheme}://${targetAuthority(target)}${path.text}`);
    const host = url.hostname.replace(/^\[|\]$/g, '');
    if (host !== target.host.text) found.push(`the host of ${url.href} is not ${target.host.text}`);
    if (url.pathname !== path.text) found.push(`the path of ${url.href} is not ${path.text}`);
  }
  const parameters = query === null ? undefined : queryParameters(query);
  if (
    parameters &&
    JSON.stringify(parameters) !== JSON.stringify([...new URLSearchParams(`?${query}`)])
  )
    found.push(`the parameters of ${query} are ${JSON.stringify(parameters)}`);
  return found;
}
