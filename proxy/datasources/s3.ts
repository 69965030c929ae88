import { copySource, formParameters, REASONS } from '#policies';
import { type DialledEndpoint, endpointOf } from '../endpoint.ts';
import { valuesOf } from '../headers.ts';
import { refused } from '../refusal.ts';
import { awsCredentialsOf, textsOf } from '../s3/credentials.ts';
import { signS3 } from '../s3/sign.ts';
import { awsEncode } from '../s3/sigv4.ts';
import { readUpload } from '../s3/upload.ts';
import type { BodyUse, DatasourceAdapter, PlannedCall } from './adapter.ts';

const BODY_USE: Readonly<Record<string, BodyUse>> = { POST: 'asks', PUT: 'goes' };

/** S3: one bucket, which the endpoint names by its host or its path; every request is signed anew. */
export const s3: DatasourceAdapter = {
  body: ({ method }) => BODY_USE[method] ?? 'none',
  assertHead({ spec, target, rawHeaders, nowMs }) {
    readUpload(rawHeaders, target.method, nowMs);
    copySourceAt(spec.endpoint, rawHeaders);
  },
  plan(call) {
    const { spec, target, rawHeaders, body, nowMs } = call;
    const credentials =
      spec.auth.type === 'sigv4' ? awsCredentialsOf(call.secret ?? '') : undefined;
    const { basePath, authority } = endpointOf(spec.endpoint);
    const key = target.path.segments.map(decodeURIComponent).join('/');
    const signed = signS3(
      {
        method: target.method,
        basePath,
        key,
        query: formParameters(target.query ?? '') ?? [],
        host: authority,
        rawHeaders,
        copySource: copySourceAt(spec.endpoint, rawHeaders),
        body,
      },
      spec.auth.type === 'sigv4' ? spec.auth.region : '',
      credentials,
      nowMs,
    );
    return {
      ...signed,
      secrets: credentials ? textsOf(credentials) : [],
      signs: true,
      announce: publicUrl(call, key),
    };
  },
};

/**
 * What is copied, if anything, in the endpoint's own words. That the program names its bucket and may get its key, inspection has seen.
 * @throws {OutriderError} EGRESS_DENIED
 */
function copySourceAt(endpoint: string, rawHeaders: readonly string[]): string | undefined {
  const [value] = valuesOf(rawHeaders, 'x-amz-copy-source');
  if (value === undefined) return undefined;
  const [bucket, source] = [bucketOf(endpointOf(endpoint)), copySource(value)];
  if (bucket === undefined || !source) {
    const reason = 's3_copy_source_forbidden';
    throw refused('EGRESS_DENIED', REASONS[reason].text, reason);
  }
  return ['', bucket, ...source.path.segments.map(decodeURIComponent)].map(awsEncode).join('/');
}

/** What the path of an endpoint names, or its host before `.s3`; undefined where that is in doubt. */
function bucketOf({ host, basePath }: DialledEndpoint): string | undefined {
  const [byHost, behind, ...more] = host.split(/\.s3(?=[.-])/);
  if (basePath === '') return behind === undefined || more.length > 0 ? undefined : byHost;
  return behind === undefined ? /^\/([A-Za-z0-9._-]+)$/.exec(basePath)?.[1] : undefined;
}

/** Where anybody can read what has been stored, for the program to tell. A part of an upload can be read nowhere before the upload is complete. */
function publicUrl(
  { spec: { publicUrlPrefix }, target: { method, query } }: PlannedCall,
  key: string,
): readonly (readonly [string, string])[] {
  const isOfUpload = (query ?? '').includes('uploadId=');
  if (publicUrlPrefix === undefined || method !== (isOfUpload ? 'POST' : 'PUT')) return [];
  const url = `${publicUrlPrefix}${key.split('/').map(awsEncode).join('/')}`;
  return [['x-outrider-public-url', url]];
}
