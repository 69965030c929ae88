import type { ErrorObject } from 'ajv';
import { isRecord } from '#core/is-record';
import { nearest } from '#core/nearest';
import type { DocumentPath, PolicyDocument, PolicyKind } from '#policies';
import * as validators from './gen/validators.ts';

/** One thing in which a document differs from its schema. */
export interface ShapeProblem {
  readonly path: DocumentPath;
  /** The key that is wrong, where it is the key and not its value. */
  readonly key?: string;
  readonly message: string;
}

export const KINDS = [
  'Role',
  'EgressPolicy',
  'CredentialBinding',
  'Datasource',
  'Boundary',
  'PolicyTest',
] as const satisfies readonly PolicyKind[];

/** A document of the schema's shape, or everything in which it differs. `kind` is looked at first, so that the answer is short. */
export function checkShape(
  value: unknown,
): { readonly document: PolicyDocument } | { readonly problems: readonly ShapeProblem[] } {
  if (!isRecord(value))
    return {
      problems: [
        {
          path: [],
          message: 'a policy document is a map with apiVersion, kind, metadata and spec',
        },
      ],
    };
  const { kind } = value;
  const known = KINDS.find((candidate) => candidate === kind);
  if (known === undefined) return { problems: [{ path: ['kind'], message: unknownKind(kind) }] };
  const validate = VALIDATORS[known];
  if (isDocument(value, validate)) return { document: value };
  const errors = validate.errors ?? [];
  const telling = errors.filter((error) => isTelling(error, errors));
  // However little they say, there is never none: what does not fit must not pass as fitting.
  const shown = telling.length > 0 ? telling : errors;
  return { problems: dedupe(shown.map((error) => describe(error, value))) };
}

/** As ajv makes it: what differs is in `errors` until the next call. */
interface Validator {
  (value: unknown): boolean;
  errors?: ErrorObject[] | null;
}

const VALIDATORS: Readonly<Record<PolicyKind, Validator>> = validators;

function isDocument(value: unknown, validate: Validator): value is PolicyDocument {
  return validate(value);
}

/** What is wrong with a list as such: said of a value, it is a list, whatever else its field might be. */
const OF_A_LIST: readonly string[] = ['minItems', 'maxItems', 'uniqueItems'];

/** Branches of `oneOf` and `if` say less than the condition they belong to, and that says less than what is wrong inside. */
function isTelling(
  { keyword, schemaPath, instancePath }: ErrorObject,
  all: readonly ErrorObject[],
): boolean {
  if (keyword === 'if') return false;
  if (OF_A_LIST.includes(keyword)) return true;
  if (keyword === 'oneOf' || keyword === 'anyOf') {
    return !all.some(
      (other) =>
        other.instancePath.startsWith(`${instancePath}/`) ||
        (other.instancePath === instancePath && OF_A_LIST.includes(other.keyword)),
    );
  }
  return !/\/(?:oneOf|anyOf)\/\d+\//.test(schemaPath) || schemaPath.includes('/auth/oneOf/');
}

function describe(error: ErrorObject, root: unknown): ShapeProblem {
  const path = pathOf(error.instancePath, root);
  const { params } = error;
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = String(params['additionalProperty']);
      const known = keysOf(error.parentSchema);
      const meant = nearest(key, known);
      const hint =
        meant === undefined ? `known here: ${known.join(', ')}` : `did you mean "${meant}"?`;
      return { path, key, message: `unknown field "${key}" (${hint})` };
    }
    case 'false schema':
      return { path, message: 'this field must not stand here together with the others' };
    case 'required':
      return { path, message: `"${String(params['missingProperty'])}" is missing` };
    case 'dependentRequired':
      return {
        path,
        message: `"${String(params['property'])}" needs "${String(params['deps'])}" beside it`,
      };
    case 'enum':
      return { path, message: oneOf(error.data, params['allowedValues']) };
    case 'discriminator':
      return {
        path: [...path, String(params['tag'])],
        message: oneOf(params['tagValue'], discriminated(error)),
      };
    case 'const':
      return { path, message: `this must be ${JSON.stringify(params['allowedValue'])}` };
    case 'type':
      return {
        path,
        message: `this must be ${typeOf(error)}${error.data === null ? ', and null never means "all"' : ''}`,
      };
    case 'minItems':
      return { path, message: 'an empty list is not accepted: it never means "all"' };
    case 'maxItems':
      return { path, message: `more entries than ${String(params['limit'])} are not accepted` };
    case 'uniqueItems':
      return { path, message: 'the same entry stands here twice' };
    case 'minProperties':
      return { path, message: tooFew(error) };
    case 'minLength':
      return { path, message: 'an empty text is not accepted' };
    case 'maxLength':
      return { path, message: `more characters than ${String(params['limit'])} are not accepted` };
    default:
      return { path, message: `this must be ${expectation(error)}` };
  }
}

/** Where there are several types, what they are for says more. */
function typeOf(error: ErrorObject): string {
  const { schema, params } = error;
  return Array.isArray(schema) ? expectation(error) : article(String(params['type']));
}

function expectation({ schema, parentSchema, message }: ErrorObject): string {
  const description: unknown = isRecord(parentSchema) ? parentSchema['description'] : undefined;
  if (typeof description === 'string') return description;
  if (isRecord(schema) && typeof schema['description'] === 'string') return schema['description'];
  return (message ?? 'as the schema says').replace(/^must (?:be )?/, '');
}

/** Of a map in which nothing stands, or only what must: what might. */
function tooFew(error: ErrorObject): string {
  const must: unknown = error.parentSchema?.['required'];
  const known = keysOf(error.parentSchema).filter(
    (key) => !(Array.isArray(must) && must.includes(key)),
  );
  if (known.length === 0)
    return isRecord(error.parentSchema) && 'description' in error.parentSchema
      ? `this must be ${expectation(error)}`
      : 'an empty map is not accepted';
  return `at least one of these must stand here: ${known.join(', ')}`;
}

function oneOf(found: unknown, allowed: unknown): string {
  const words = Array.isArray(allowed) ? allowed.map(String) : [];
  const meant = typeof found === 'string' ? nearest(found, words) : undefined;
  return `this must be one of ${words.join(', ')}${meant === undefined ? '' : ` (did you mean "${meant}"?)`}`;
}

function discriminated({ parentSchema }: ErrorObject): string[] {
  const branches: unknown = parentSchema?.['oneOf'];
  if (!Array.isArray(branches)) return [];
  return branches.flatMap((branch: unknown) => {
    const type =
      isRecord(branch) && isRecord(branch['properties']) ? branch['properties']['type'] : undefined;
    return isRecord(type) && typeof type['const'] === 'string' ? [type['const']] : [];
  });
}

function keysOf(schema: unknown): string[] {
  return isRecord(schema) && isRecord(schema['properties'])
    ? Object.keys(schema['properties'])
    : [];
}

function article(type: string): string {
  const names: Record<string, string> = {
    array: 'a list',
    object: 'a map',
    string: 'text',
    integer: 'a whole number',
    boolean: 'true or false, without quotes',
  };
  return names[type] ?? `a ${type}`;
}

/** A JSON pointer as keys and indexes: whether a step is an index, the value itself says. */
function pathOf(pointer: string, root: unknown): DocumentPath {
  const path: (string | number)[] = [];
  let at = root;
  for (const step of pointer.split('/').slice(1)) {
    const key = step.replaceAll('~1', '/').replaceAll('~0', '~');
    const index = Array.isArray(at) ? Number(key) : undefined;
    path.push(index ?? key);
    at = index !== undefined && Array.isArray(at) ? at[index] : isRecord(at) ? at[key] : undefined;
  }
  return path;
}

function unknownKind(kind: unknown): string {
  return kind === undefined ? `"kind" is missing: one of ${KINDS.join(', ')}` : oneOf(kind, KINDS);
}

function dedupe(problems: readonly ShapeProblem[]): ShapeProblem[] {
  const seen = new Map(problems.map((problem) => [JSON.stringify(problem), problem]));
  return [...seen.values()];
}
