import { formParameters } from '#policies';
import { endpointOf } from '../endpoint.ts';
import { awsCredentialsOf, textsOf } from '../s3/credentials.ts';
import { signS3 } from '../s3/sign.ts';
import { awsEncode } from '../s3/sigv4.ts';
import { readUpload } from '../s3/upload.ts';
import type { DatasourceAdapter, PlannedCall } from './adapter.ts';

/** S3: one bucket, which the endpoint names by its host or its path; every request is signed anew. */
export const s3: DatasourceAdapter = {
  readsBody: ({ method }) => method === 'POST',
  assertHead({ target, rawHeaders, nowMs }) {
    readUpload(rawHeaders, target.method, nowMs);
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

/** Where anybody can read what has been stored, for the program to tell. */
function publicUrl(
  { spec: { publicUrlPrefix }, target: { method, query } }: PlannedCall,
  key: string,
): readonly (readonly [string, string])[] {
  const stores = method === 'PUT' || (method === 'POST' && (query ?? '').includes('uploadId='));
  if (publicUrlPrefix === undefined || !stores) return [];
  const url = `${publicUrlPrefix}${key.split('/').map(awsEncode).join('/')}`;
  return [['x-outrider-public-url', url]];
}
