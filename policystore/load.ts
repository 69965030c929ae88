import { OutriderError } from '#core/errors';
import { printable } from '#core/printable';
import {
  compilePolicySet,
  type PolicyDocument,
  type PolicyDocuments,
  type PolicyProblem,
  type PolicySet,
} from '#policies';
import { digestOf } from './digest.ts';
import { type PolicyFile, readPolicyFiles } from './files.ts';
import { readJsonSource } from './json-source.ts';
import { runPolicyTests } from './policy-tests.ts';
import { checkShape } from './schema.ts';
import { type Finding, readSource, type SourceDocument } from './source.ts';

/** A directory's policy, read and proven: the only form in which any part uses one. */
export interface LoadedPolicy {
  readonly documents: PolicyDocuments;
  readonly digest: string;
  /** The files that it came from, relative to the directory, sorted. */
  readonly files: readonly string[];
  readonly set: PolicySet;
}

/**
 * Reads every policy document beneath a directory, checks each against the schema and all against each other, and runs the
 * PolicyTests. A directory without documents is a policy that denies everything.
 * @throws {OutriderError} POLICY_INVALID with every problem at once, as lines of `file:line:column: what is wrong`
 */
export async function loadDirectory(directory: string): Promise<LoadedPolicy> {
  return loadFiles(await readPolicyFiles(directory));
}

/** As `loadDirectory`, from texts. */
export function loadFiles(files: readonly PolicyFile[]): LoadedPolicy {
  const { locate, ...loaded } = parseFiles(files);
  const failures = runPolicyTests(loaded.set);
  if (failures.length > 0) throw invalid(failures.map(locate));
  return loaded;
}

/** A policy whose documents are sound, each and all together, and whose PolicyTests nobody has run yet. */
export interface ParsedPolicy extends LoadedPolicy {
  /** Where in which file a problem of one of the documents stands. */
  readonly locate: (problem: PolicyProblem) => Finding;
}

/**
 * Everything of `loadFiles` but the PolicyTests: for tools that run those themselves, and that no part decides with.
 * @throws {OutriderError} POLICY_INVALID with every problem at once, as lines of `file:line:column: what is wrong`
 */
export function parseFiles(files: readonly PolicyFile[]): ParsedPolicy {
  const findings: Finding[] = [];
  const sources = new Map<PolicyDocument, SourceDocument>();
  for (const file of files) {
    const read = file.name.endsWith('.json') ? readJsonSource(file) : readSource(file);
    findings.push(...read.findings);
    for (const source of read.documents) {
      const shape = checkShape(source.value);
      if ('document' in shape) sources.set(shape.document, source);
      else
        findings.push(
          ...shape.problems.map(({ path, key, message }) => ({
            where: source.locate(path, key),
            message,
          })),
        );
    }
  }
  if (findings.length > 0) throw invalid(findings);

  const documents = byKind([...sources.keys()]);
  const locateIn = (problem: PolicyProblem) => placed(problem, documents, sources);
  const digest = digestOf([...sources.keys()]);
  const set = compile(documents, digest, (problems) => invalid(problems.map(locateIn)));
  return { documents, digest, files: files.map(({ name }) => name), set, locate: locateIn };
}

function compile(
  documents: PolicyDocuments,
  digest: string,
  located: (problems: readonly PolicyProblem[]) => OutriderError,
): PolicySet {
  try {
    return compilePolicySet(documents, digest, Date.now());
  } catch (error) {
    const problems = problemsOf(error);
    throw problems ? located(problems) : error;
  }
}

function byKind(documents: readonly PolicyDocument[]): PolicyDocuments {
  return {
    roles: documents.filter((item) => item.kind === 'Role'),
    egressPolicies: documents.filter((item) => item.kind === 'EgressPolicy'),
    credentialBindings: documents.filter((item) => item.kind === 'CredentialBinding'),
    datasources: documents.filter((item) => item.kind === 'Datasource'),
    boundaries: documents.filter((item) => item.kind === 'Boundary'),
    tests: documents.filter((item) => item.kind === 'PolicyTest'),
  };
}

function placed(
  { kind, name, index, path, message }: PolicyProblem,
  documents: PolicyDocuments,
  sources: ReadonlyMap<PolicyDocument, SourceDocument>,
): Finding {
  const document = documents[LIST[kind]][index];
  const where = document && sources.get(document)?.locate(path);
  return { where: where ?? `${kind} ${name}`, message };
}

/** The list of `PolicyDocuments` that holds each kind. */
const LIST = {
  Role: 'roles',
  EgressPolicy: 'egressPolicies',
  CredentialBinding: 'credentialBindings',
  Datasource: 'datasources',
  Boundary: 'boundaries',
  PolicyTest: 'tests',
} as const satisfies Record<PolicyProblem['kind'], keyof PolicyDocuments>;

function problemsOf(error: unknown): readonly PolicyProblem[] | undefined {
  if (!(error instanceof OutriderError) || error.code !== 'POLICY_INVALID') return undefined;
  const { cause } = error;
  return isProblems(cause) ? cause : undefined;
}

function isProblems(value: unknown): value is readonly PolicyProblem[] {
  return (
    Array.isArray(value) &&
    value.every((item: unknown) => typeof item === 'object' && item !== null && 'message' in item)
  );
}

function invalid(findings: readonly Finding[]): OutriderError {
  const sorted = findings.toSorted((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1));
  // A key, or the name of a file, must not begin a line that looks like another finding or like a command to a pipeline.
  const lines = sorted.map(({ where, message }) => printable(`${where}: ${message}`));
  return new OutriderError('POLICY_INVALID', lines.join('\n'), { cause: sorted });
}

/** `file:line:column` in a form that sorts as a person reads. */
function placeOf({ where }: Finding): string {
  return where.replace(/\d+/g, (number) => number.padStart(8, '0'));
}
