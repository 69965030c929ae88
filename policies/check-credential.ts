import { endpointProblem, names } from './check-datasource.ts';
import { checkHosts, checkPaths } from './check-rule.ts';
import type { Checked } from './checked.ts';
import type { Boundary, CredentialBinding, EgressPolicy, PolicyDocuments } from './document.ts';
import { parseEndpoint } from './endpoint.ts';
import { FRAMING, isFramingHeader } from './framing-header.ts';
import { eachPolicy } from './project.ts';
import type { AllowProjection } from './projection.ts';
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
  const { boundaries } = documents;
  const sound = bindings
    .filter((checked) => isSound(checked, boundaries))
    .map(
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
      if (bound && 'sigv4' in bound.document.spec.inject && isStreamed(rule))
        report(
          ['spec', 'allow', index, 'protocols'],
          `"${rule.credential}" signs whole requests, and HTTP/2 is sent on as it comes: name http1, and no grpc`,
        );
    }
  }
}

/** Whether requests go to the other side as HTTP/2, and so before their bodies are there. */
function isStreamed({ protocols }: AllowProjection): boolean {
  return (
    protocols.includes('grpc') || (protocols.includes('http2') && !protocols.includes('http1'))
  );
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

/** They are signed as S3 is, and as nothing else. */
const S3_BY_ANOTHER_NAME = new Set(['s3express', 's3-outposts', 's3-object-lambda']);

function isSound(
  { document: { spec }, report }: Checked<CredentialBinding>,
  boundaries: readonly Boundary[],
): boolean {
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
  if ('sigv4' in spec.inject && S3_BY_ANOTHER_NAME.has(spec.inject.sigv4.service))
    note(
      ['spec', 'inject', 'sigv4', 'service'],
      'this is the API of S3 by another name, whose copies and sub-resources would be signed: only s3 is known here',
    );
  if ('oauth2' in spec.inject) {
    const problem = tokenUrlProblem(spec.inject.oauth2.tokenUrl, boundaries);
    if (problem !== undefined) note(['spec', 'inject', 'oauth2', 'tokenUrl'], problem);
  }
  return sound;
}

/** It is reached without a rule of its own, so that it must be where every Boundary lets rules lead. */
function tokenUrlProblem(text: string, boundaries: readonly Boundary[]): string | undefined {
  const endpoint = parseEndpoint(text);
  if (typeof endpoint === 'string') return endpoint;
  if (endpoint.scheme !== 'https') return 'a client secret goes over https alone';
  const { host, port } = endpoint;
  const mayBe = boundaries.every(
    ({ spec: { mayHosts, neverPorts = [] } }) =>
      (mayHosts?.some((pattern) => names(pattern, host.text)) ?? true) &&
      !neverPorts.includes(port),
  );
  return mayBe && endpointProblem(endpoint, {}, boundaries) === undefined
    ? undefined
    : 'tokens come from a public host that no Boundary forbids, and this is none';
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
