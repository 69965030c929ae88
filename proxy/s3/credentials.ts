import { refused } from '../refusal.ts';
import type { AwsCredentials } from './sigv4.ts';

/**
 * Reads a secret that requests are signed with: `<access key id>:<secret access key>[:<session token>]`.
 * @throws {OutriderError} CREDENTIAL_UNAVAILABLE
 */
export function awsCredentialsOf(secret: string): AwsCredentials {
  const [, accessKeyId, secretAccessKey, sessionToken] =
    /^([^:]+):([^:]+)(?::([^:]+))?$/.exec(secret) ?? [];
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw refused(
      'CREDENTIAL_UNAVAILABLE',
      'the credential of this call cannot be used',
      'credential_unavailable',
      { because: 'the secret is not <access key id>:<secret access key>[:<session token>]' },
    );
  return { accessKeyId, secretAccessKey, sessionToken };
}

/** What of it must not come back. */
export function textsOf(credentials: AwsCredentials): string[] {
  return Object.values(credentials).filter((text) => text !== undefined);
}
