import { checkHosts, checkPaths } from './check-rule.ts';
import type { Checked } from './checked.ts';
import type { CredentialBinding, EgressPolicy, PolicyDocuments } from './document.ts';
import { FRAMING, isFramingHeader } from './framing-header.ts';
import { eachPolicy } from './project.ts';
import {
  allowBoxes,
  type Box,
  commonBox,
  everythingAt,
  type Filed,
  find,
  Layer,
  pathPatterns,
} from './space/index.ts';

/**
 * One secret goes to one set of places: bindings do not overlap, a rule with a credential stays within its binding, and a
 * binding that no rule can use does not lie about.
 */
export function checkCredentials(
  documents: PolicyDocuments,
  bindings: readonly Checked<CredentialBinding>[],
  policies: readonly Checked<EgressPolicy>[],
): void {
  const sound = bindings.filter(isSound).map(
    (checked): Bound => ({
      ...checked,
      layer: new Layer(placesOf(checked.document)),
    }),
  );
  checkOverlaps(sound);
  checkReachable(sound, documents.egressPolicies);
  const byName = new Map(sound.map((bound) => [bound.document.metadata.name, bound]));
  const projections = eachPolicy(documents);
  for (const { document, report } of policies) {
    for (const [index, rule] of (projections.get(document)?.allow ?? []).entries()) {
      const bound = rule.credential === null ? undefined : byName.get(rule.credential);
      const example = bound && outsideBinding(allowBoxes(rule), bound);
      if (example !== undefined)
        report(
          ['spec', 'allow', index, 'credential'],
          `the CredentialBinding "${rule.credential}" is not for "${example}", which this rule allows`,
        );
    }
  }
}

/** A binding, with the requests that it is for. */
interface Bound extends Checked<CredentialBinding> {
  readonly layer: Layer<Filed>;
}

/** Every https request to the hosts and paths of a binding; each box with the host's index. */
function placesOf({ spec: { hosts, paths = 'any' } }: CredentialBinding) {
  return hosts.flatMap((text, host) =>
    pathPatterns(paths).map((path) => ({
      host,
      box: { ...everythingAt(text), scheme: 'https' as const, path },
    })),
  );
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

function checkOverlaps(bindings: readonly Bound[]): void {
  const before = new Layer<Filed & { readonly name: string }>();
  for (const { document, report } of bindings) {
    const said = new Set<string>();
    for (const { host, box } of placesOf(document)) {
      for (const other of before.meeting(box)) {
        const both = commonBox(box, other.box);
        const example = both && find(both, []);
        const pair = `${host} ${other.name}`;
        if (!example || said.has(pair)) continue;
        said.add(pair);
        report(
          ['spec', 'hosts', host],
          `overlaps with the CredentialBinding "${other.name}": both would apply to "${example.request}"`,
        );
      }
    }
    for (const { box } of placesOf(document)) before.add({ box, name: document.metadata.name });
  }
}

/** Every host of a binding must be one that some rule may send the credential to. */
function checkReachable(bindings: readonly Bound[], policies: readonly EgressPolicy[]): void {
  const reached = reachedHosts(policies);
  for (const { document, report } of bindings) {
    const { name } = document.metadata;
    const hosts = reached.get(name);
    for (const [index, host] of document.spec.hosts.entries()) {
      if (!hosts || hosts.meeting(everythingAt(host)).next().done)
        report(['spec', 'hosts', index], `no rule with \`credential: ${name}\` reaches this host`);
    }
  }
}

/** The hosts of the rules with each credential. */
function reachedHosts(policies: readonly EgressPolicy[]): Map<string, Layer<Filed>> {
  const reached = new Map<string, Layer<Filed>>();
  for (const { spec } of policies) {
    for (const { credential, hosts = [] } of spec.allow) {
      if (credential === undefined) continue;
      let layer = reached.get(credential);
      if (!layer) reached.set(credential, (layer = new Layer()));
      for (const host of hosts) layer.add({ box: everythingAt(host) });
    }
  }
  return reached;
}

/** A request of a rule that asks for a credential where its binding does not give it. */
function outsideBinding(boxes: readonly Box[], { layer }: Bound): string | undefined {
  for (const box of boxes) {
    const example = find(box, [{ layer }]);
    if (example) return example.request;
  }
  return undefined;
}
