import type { Method, S3Operation } from '../document.ts';
import type { S3Guard } from '../projection.ts';
import type { Reason } from '../reason.ts';
import { type DatasourceCall, type Implied, type Inspection, pass, refuse } from './inspection.ts';
import { Parameters } from './parameters.ts';
import { copySource, deletedKeys } from './s3-named.ts';

export const S3_OPERATIONS = [
  'get',
  'list',
  'put',
  'delete',
] as const satisfies readonly S3Operation[];

/** One call of the S3 API, told by its method, by whether its path names a key, and by its parameters. */
interface Operation {
  readonly method: string;
  /** What it is about: the key that its path names, the keys that begin with its `prefix`, those in its body, or the bucket alone. */
  readonly about: 'key' | 'prefix' | 'body' | 'bucket';
  readonly operation: S3Operation;
  /** Parameters that it must have, and those that it may have besides. */
  readonly must: readonly string[];
  readonly may: readonly string[];
}

const CONDITIONS = ['partNumber', 'response-content-type', 'response-content-disposition'];
const LISTING = ['prefix', 'delimiter', 'encoding-type'];

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html */
const OPERATIONS: readonly Operation[] = [
  { method: 'GET', about: 'key', operation: 'get', must: [], may: CONDITIONS },
  { method: 'HEAD', about: 'key', operation: 'get', must: [], may: ['partNumber'] },
  { method: 'HEAD', about: 'bucket', operation: 'list', must: [], may: [] },
  { method: 'GET', about: 'bucket', operation: 'list', must: ['location'], may: [] },
  {
    method: 'GET',
    about: 'prefix',
    operation: 'list',
    must: [],
    may: [...LISTING, 'max-keys', 'marker'],
  },
  {
    method: 'GET',
    about: 'prefix',
    operation: 'list',
    must: ['list-type'],
    may: [...LISTING, 'max-keys', 'continuation-token', 'start-after', 'fetch-owner'],
  },
  {
    method: 'GET',
    about: 'prefix',
    operation: 'list',
    must: ['uploads'],
    may: [...LISTING, 'max-uploads', 'key-marker', 'upload-id-marker'],
  },
  { method: 'PUT', about: 'key', operation: 'put', must: [], may: [] },
  { method: 'POST', about: 'key', operation: 'put', must: ['uploads'], may: [] },
  { method: 'PUT', about: 'key', operation: 'put', must: ['partNumber', 'uploadId'], may: [] },
  { method: 'POST', about: 'key', operation: 'put', must: ['uploadId'], may: [] },
  {
    method: 'GET',
    about: 'key',
    operation: 'put',
    must: ['uploadId'],
    may: ['max-parts', 'part-number-marker'],
  },
  { method: 'DELETE', about: 'key', operation: 'put', must: ['uploadId'], may: [] },
  { method: 'DELETE', about: 'key', operation: 'delete', must: [], may: [] },
  { method: 'POST', about: 'body', operation: 'delete', must: ['delete'], may: [] },
];

/** Those of the operations, and others that only read or list. */
const PARAMETERS = new Set([
  ...OPERATIONS.flatMap(({ must, may }) => [...must, ...may]),
  ...['cache-control', 'content-encoding', 'content-language', 'expires'].map(
    (header) => `response-${header}`,
  ),
  'x-id',
]);

/**
 * S3: one bucket, which the datasource's endpoint names; the path is the key. A copy comes down to getting its source, and deleting many
 * keys at once to deleting each. Sub-resources (acl, policy, tagging, ...) and requests that were signed before are never forwarded.
 */
export function inspectS3(guard: S3Guard | null, call: DatasourceCall): Inspection {
  const asked = askedOf(call);
  if (!asked) return refuse('query_malformed');
  const { key, parameters } = asked;
  const copied = copiedBy(call);
  if (copied === 'refused') return refuse('s3_copy_source_forbidden');
  const called = operationOf(call.method, key, parameters);
  const reason =
    shapeRefusal(key, parameters, called) ?? grantRefusal(guard, call, key, parameters, called);
  if (reason) return refuse(reason);
  if (called?.about !== 'body') return pass(call.query, copied);
  const deleted = deletedKeys(call.body ?? '');
  if (!deleted) return refuse('s3_subresource_forbidden');
  const otherwise = 's3_key_not_allowed';
  return pass(
    call.query,
    deleted.map((path) => ({ method: 'DELETE', path, otherwise })),
  );
}

/** A request to S3 of which no more is known than that a rule allows its host, method and path. */
export type S3Request = Omit<DatasourceCall, 'type' | 'name' | 'body'>;

/**
 * Why such a request is never forwarded: it is about more than the bytes at its path, or has a parameter that nobody here knows and that
 * could make it so, or was signed before; undefined where it may.
 */
export function s3ShapeRefusal(call: S3Request): Reason | undefined {
  const asked = askedOf(call);
  if (!asked) return 'query_malformed';
  const { key, parameters } = asked;
  if (call.header('x-amz-copy-source') !== undefined) return 's3_copy_source_forbidden';
  const known = parameters.names.every((name) => PARAMETERS.has(name));
  return shapeRefusal(key, parameters) ?? (known ? undefined : 's3_query_forbidden');
}

/** Whether parameters of these names are a signature of AWS (a presigned request). */
export function signedBefore(names: readonly string[]): boolean {
  return names.some(
    (name) => /^x-amz-/i.test(name) || /^(?:AWSAccessKeyId|Signature|Expires)$/i.test(name),
  );
}

function askedOf(call: S3Request): { key: string; parameters: Parameters } | undefined {
  const key = keyOf(call);
  const parameters = Parameters.of({ ...call, body: null });
  return key === undefined || typeof parameters === 'string' ? undefined : { key, parameters };
}

function keyOf({ path }: S3Request): string | undefined {
  try {
    return path.segments.map(decodeURIComponent).join('/');
  } catch {
    return undefined;
  }
}

/** What a call copies, if anything: an object of the same bucket, named as the program names that. */
function copiedBy({ method, name, header }: DatasourceCall): readonly Implied[] | 'refused' {
  const value = header('x-amz-copy-source');
  if (value === undefined) return [];
  const source = copySource(value);
  if (method !== 'PUT' || source?.bucket !== name) return 'refused';
  return [{ method: 'GET', path: source.path, otherwise: 's3_copy_source_forbidden' }];
}

/** `called`: what is known to be no more than it says. */
function shapeRefusal(key: string, parameters: Parameters, called?: Operation): Reason | undefined {
  const { names } = parameters;
  if (signedBefore(names)) return 'sigv4_presigned_forbidden';
  if (names.some((name) => parameters.all(name).length > 1)) return 'param_duplicate';
  if (!called && namesSubresource(names)) return 's3_subresource_forbidden';
  return key.startsWith('/') ? 's3_key_not_allowed' : undefined;
}

function namesSubresource(names: readonly string[]): boolean {
  return names.some((name) => SUBRESOURCES.has(name));
}

/** Parameters that turn a call into another one, which is about more than an object's bytes. */
const SUBRESOURCES = new Set(
  (
    'accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold lifecycle ' +
    'location logging metadataTable metrics notification object-lock ownershipControls policy policyStatus ' +
    'publicAccessBlock renameObject replication requestPayment restore retention select select-type session tagging ' +
    'torrent versionId versioning versions website'
  ).split(' '),
);

function operationOf(method: Method, key: string, parameters: Parameters): Operation | undefined {
  // The SDKs name their operation in it; no server reads it.
  const names = parameters.names.filter((name) => name !== 'x-id');
  return OPERATIONS.find(
    (one) =>
      isAt(one, method, key) &&
      one.must.every((name) => names.includes(name)) &&
      names.every((name) => one.must.includes(name) || one.may.includes(name)),
  );
}

function isAt({ method, about }: Operation, asked: Method, key: string): boolean {
  return method === asked && (about === 'key') === (key !== '');
}

function grantRefusal(
  guard: S3Guard | null,
  { method }: DatasourceCall,
  key: string,
  parameters: Parameters,
  called: Operation | undefined,
): Reason | undefined {
  if (!called)
    return OPERATIONS.some((one) => isAt(one, method, key))
      ? 's3_query_forbidden'
      : 'method_not_allowed';
  if (!guard?.operations.includes(called.operation))
    return namesSubresource(parameters.names) ? 's3_subresource_forbidden' : 'method_not_allowed';
  if (called.about === 'key') return begins(guard, key) ? undefined : 's3_key_not_allowed';
  if (called.about !== 'prefix') return undefined;
  if ((parameters.one('list-type') ?? '2') !== '2') return 's3_query_forbidden';
  const prefix = parameters.one('prefix') ?? '';
  if (hasDots(prefix)) return 'query_malformed';
  return begins(guard, prefix) ? undefined : 's3_prefix_not_allowed';
}

/** No key that can be asked for has such a segment, and a store that keeps objects as files could follow it out of the prefix. */
function hasDots(prefix: string): boolean {
  return prefix.split(/[/\\]/).some((segment) => segment === '.' || segment === '..');
}

function begins(guard: S3Guard | null, text: string): boolean {
  if (!guard) return false;
  return guard.prefixes === 'any' || guard.prefixes.some((prefix) => text.startsWith(prefix));
}
