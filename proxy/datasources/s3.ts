import { formParameters } from '#policies';
import { endpointOf } from '../endpoint.ts';
import { refused } from '../refusal.ts';
import { signS3 } from '../s3/sign.ts';
import { type AwsCredentials, awsEncode } from '../s3/sigv4.ts';
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
    const credentials = credentialsOf(call);
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
      secrets: credentials ? Object.values(credentials).filter((text) => text !== undefined) : [],
      signs: true,
      announce: publicUrl(call, key),
    };
  },
};

function credentialsOf({ spec: { auth }, secret }: PlannedCall): AwsCredentials | undefined {
  if (auth.type !== 'sigv4') return undefined;
  const [, accessKeyId, secretAccessKey, sessionToken] =
    /^([^:]+):([^:]+)(?::([^:]+))?$/.exec(secret ?? '') ?? [];
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw refused(
      'CREDENTIAL_UNAVAILABLE',
      'the credential of this call cannot be used',
      'credential_unavailable',
      { because: 'the secret is not <access key id>:<secret access key>[:<session token>]' },
    );
  return { accessKeyId, secretAccessKey, sessionToken };
}

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
