import type { S3Operation } from '../document.ts';
import type { S3Guard } from '../projection.ts';
import type { Reason } from '../reason.ts';
import { type DatasourceCall, type Inspection, pass, refuse } from './inspection.ts';
import { Parameters } from './parameters.ts';

export const S3_OPERATIONS = [
  'get',
  'list',
  'put',
  'delete',
] as const satisfies readonly S3Operation[];

/** One call of the S3 API, told by its method, by whether it names a key, and by its parameters. */
interface Operation {
  readonly method: string;
  readonly onKey: boolean;
  readonly operation: S3Operation;
  /** Parameters that it must have, and those that it may have besides. */
  readonly must: readonly string[];
  readonly may: readonly string[];
}

const CONDITIONS = ['partNumber', 'response-content-type', 'response-content-disposition'];

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html */
const OPERATIONS: readonly Operation[] = [
  { method: 'GET', onKey: true, operation: 'get', must: [], may: CONDITIONS },
  { method: 'HEAD', onKey: true, operation: 'get', must: [], may: ['partNumber'] },
  {
    method: 'GET',
    onKey: false,
    operation: 'list',
    must: ['list-type'],
    may: [
      'prefix',
      'delimiter',
      'max-keys',
      'continuation-token',
      'start-after',
      'encoding-type',
      'fetch-owner',
    ],
  },
  { method: 'PUT', onKey: true, operation: 'put', must: [], may: [] },
  { method: 'POST', onKey: true, operation: 'put', must: ['uploads'], may: [] },
  { method: 'PUT', onKey: true, operation: 'put', must: ['partNumber', 'uploadId'], may: [] },
  { method: 'POST', onKey: true, operation: 'put', must: ['uploadId'], may: [] },
  {
    method: 'GET',
    onKey: true,
    operation: 'put',
    must: ['uploadId'],
    may: ['max-parts', 'part-number-marker'],
  },
  { method: 'DELETE', onKey: true, operation: 'put', must: ['uploadId'], may: [] },
  { method: 'DELETE', onKey: true, operation: 'delete', must: [], may: [] },
];

/** Those of the operations, and others that only read or list. */
const PARAMETERS = new Set([
  ...OPERATIONS.flatMap(({ must, may }) => [...must, ...may]),
  ...['cache-control', 'content-encoding', 'content-language', 'expires'].map(
    (header) => `response-${header}`,
  ),
  'marker',
  'key-marker',
  'upload-id-marker',
  'max-uploads',
  'x-id',
]);

/**
 * S3: one bucket, which the datasource's endpoint names; the path is the key. Copies, sub-resources (acl, policy, tagging, ...),
 * deleting many keys at once, and requests that were signed before are never forwarded.
 */
export function inspectS3(guard: S3Guard | null, call: DatasourceCall): Inspection {
  const asked = askedOf(call);
  if (!asked) return refuse('query_malformed');
  const { key, parameters } = asked;
  const reason = shapeRefusal(call, key, parameters) ?? grantRefusal(guard, call, key, parameters);
  return reason ? refuse(reason) : pass(call.query);
}

/** A request to S3 of which no more is known than that a rule allows its host, method and path. */
export type S3Request = Omit<DatasourceCall, 'type' | 'body'>;

/**
 * Why such a request is never forwarded: it is about more than the bytes at its path, or has a parameter that nobody here knows and that
 * could make it so, or was signed before; undefined where it may.
 */
export function s3ShapeRefusal(call: S3Request): Reason | undefined {
  const asked = askedOf(call);
  if (!asked) return 'query_malformed';
  const { key, parameters } = asked;
  const known = parameters.names.every((name) => PARAMETERS.has(name));
  return shapeRefusal(call, key, parameters) ?? (known ? undefined : 's3_query_forbidden');
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

function shapeRefusal(
  { header }: S3Request,
  key: string,
  parameters: Parameters,
): Reason | undefined {
  if (header('x-amz-copy-source') !== undefined) return 's3_copy_source_forbidden';
  const { names } = parameters;
  if (signedBefore(names)) return 'sigv4_presigned_forbidden';
  if (names.some((name) => parameters.all(name).length > 1)) return 'param_duplicate';
  if (names.some((name) => SUBRESOURCES.has(name))) return 's3_subresource_forbidden';
  return key.startsWith('/') ? 's3_key_not_allowed' : undefined;
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

function grantRefusal(
  guard: S3Guard | null,
  { method }: DatasourceCall,
  key: string,
  parameters: Parameters,
): Reason | undefined {
  // The SDKs name their operation in it; no server reads it.
  const names = parameters.names.filter((name) => name !== 'x-id');
  const onKey = key !== '';
  const called = OPERATIONS.filter(
    (one) =>
      one.method === method &&
      one.onKey === onKey &&
      one.must.every((name) => names.includes(name)) &&
      names.every((name) => one.must.includes(name) || one.may.includes(name)),
  );
  if (called.length === 0)
    return OPERATIONS.some((one) => one.method === method && one.onKey === onKey)
      ? 's3_query_forbidden'
      : 'method_not_allowed';
  if (!called.some(({ operation }) => guard?.operations.includes(operation)))
    return 'method_not_allowed';
  if (onKey) return begins(guard, key) ? undefined : 's3_key_not_allowed';
  if (parameters.one('list-type') !== '2') return 's3_query_forbidden';
  return begins(guard, parameters.one('prefix') ?? '') ? undefined : 's3_prefix_not_allowed';
}

function begins(guard: S3Guard | null, text: string): boolean {
  if (!guard) return false;
  return guard.prefixes === 'any' || guard.prefixes.some((prefix) => text.startsWith(prefix));
}
