import { checkHosts, checkPaths } from './check-rule.ts';
import type { Checked } from './checked.ts';
import type {
  AllowRuleSpec,
  CredentialBinding,
  EgressPolicy,
  PolicyDocuments,
} from './document.ts';
import { FRAMING, isFramingHeader } from './framing-header.ts';
import { commonHost, type HostPattern, hostCovers, parseHostPattern } from './host-pattern.ts';
import { commonPath, type PathPattern, parsePathPattern, pathCovers } from './path-pattern.ts';

/**
 * One secret goes to one set of places: bindings do not overlap, a rule with a credential stays within its binding, and a
 * binding that no rule can use does not lie about.
 */
export function checkCredentials(
  { egressPolicies }: PolicyDocuments,
  bindings: readonly Checked<CredentialBinding>[],
  policies: readonly Checked<EgressPolicy>[],
): void {
  const sound = bindings.filter(isSound);
  for (const [index, binding] of sound.entries()) {
    for (const other of sound.slice(0, index)) checkOverlap(binding, other.document);
    checkReachable(binding, egressPolicies);
  }
  const byName = new Map(sound.map(({ document }) => [document.metadata.name, document]));
  for (const { document, report } of policies) {
    for (const [index, rule] of document.spec.allow.entries()) {
      const binding = rule.credential === undefined ? undefined : byName.get(rule.credential);
      const problem = binding && outsideBinding(rule, binding);
      if (problem !== undefined) report(['spec', 'allow', index, 'credential'], problem);
    }
  }
}

function isSound({ document: { spec }, report }: Checked<CredentialBinding>): boolean {
  let sound = true;
  const note: typeof report = (path, message) => {
    sound = false;
    report(path, message);
  };
  checkHosts(spec.hosts, ['spec', 'hosts'], note);
  checkPaths(spec.paths, ['spec', 'paths'], note);
  if ('format' in spec.inject) {
    const { header, format } = spec.inject;
    if (isFramingHeader(header)) note(['spec', 'inject', 'header'], FRAMING);
    if (format.split('{secret}').length !== 2 || !/^[\x20-\x7e]*$/.test(format)) {
      note(
        ['spec', 'inject', 'format'],
        'a header has visible ASCII, and the secret exactly once, as {secret}',
      );
    }
  }
  return sound;
}

function checkOverlap(
  { document, report }: Checked<CredentialBinding>,
  other: CredentialBinding,
): void {
  for (const [index, host] of hostsOf(document).entries()) {
    const shared = hostsOf(other)
      .map((there) => commonHost(host, there))
      .find((found) => found !== undefined);
    const path = shared === undefined ? undefined : sharedPath(document, other);
    if (shared === undefined || path === undefined) continue;
    const { name } = other.metadata;
    report(
      ['spec', 'hosts', index],
      `overlaps with the CredentialBinding "${name}": both would apply to https://${shared}${path}`,
    );
  }
}

function sharedPath(a: CredentialBinding, b: CredentialBinding): string | undefined {
  for (const left of pathsOf(a)) {
    for (const right of pathsOf(b)) {
      const path = commonPath(left, right);
      if (path !== undefined) return path;
    }
  }
  return undefined;
}

/** Every host of a binding must be one that some rule may send the credential to. */
function checkReachable(
  { document, report }: Checked<CredentialBinding>,
  policies: readonly EgressPolicy[],
): void {
  const { name } = document.metadata;
  const rules = policies
    .flatMap(({ spec }) => spec.allow)
    .filter(({ credential }) => credential === name);
  const reached = rules.flatMap(({ hosts = [] }) => hosts.map(hostPattern));
  for (const [index, host] of hostsOf(document).entries()) {
    if (!reached.some((pattern) => commonHost(host, pattern) !== undefined)) {
      report(['spec', 'hosts', index], `no rule with \`credential: ${name}\` reaches this host`);
    }
  }
}

/** Why a rule asks for a credential where its binding does not give it. */
function outsideBinding(rule: AllowRuleSpec, binding: CredentialBinding): string | undefined {
  const { name } = binding.metadata;
  const host = (rule.hosts ?? []).find(
    (text) => !hostsOf(binding).some((outer) => hostCovers(outer, hostPattern(text))),
  );
  if (host !== undefined) return `the CredentialBinding "${name}" is not for ${host}`;
  const paths = rule.paths === 'any' || rule.paths === undefined ? ['/**'] : rule.paths;
  const path = paths.find(
    (text) => !pathsOf(binding).some((outer) => pathCovers(outer, pathPattern(text))),
  );
  return path === undefined
    ? undefined
    : `the CredentialBinding "${name}" is not for the path ${path}`;
}

function hostsOf({ spec }: CredentialBinding): HostPattern[] {
  return spec.hosts.map(hostPattern);
}

function pathsOf({ spec: { paths } }: CredentialBinding): PathPattern[] {
  return (paths === undefined || paths === 'any' ? ['/**'] : paths).map(pathPattern);
}

function hostPattern(text: string): HostPattern {
  const pattern = parseHostPattern(text);
  if (typeof pattern === 'string') throw new Error(`unreachable: ${text} was checked before`);
  return pattern;
}

function pathPattern(text: string): PathPattern {
  const pattern = parsePathPattern(text);
  if (typeof pattern === 'string') throw new Error(`unreachable: ${text} was checked before`);
  return pattern;
}
