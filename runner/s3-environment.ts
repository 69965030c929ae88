/**
 * What the usual S3 clients read at their start, so that they find the datasources of a role without being told: the door as the
 * endpoint, a datasource's name for a bucket, and placeholders to sign with, since they do not go without. The proxy removes what they sign
 * and signs anew. A region is part of a signature, and any will do. A client that asks the metadata service of a cloud for more would
 * only wait for a refusal. rclone would make the bucket where it has not listed it yet.
 */
export const S3_ENV = {
  AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:3128/s3',
  AWS_ACCESS_KEY_ID: 'OUTRIDER',
  AWS_SECRET_ACCESS_KEY: 'OUTRIDER',
  AWS_REGION: 'us-east-1',
  AWS_DEFAULT_REGION: 'us-east-1',
  AWS_EC2_METADATA_DISABLED: 'true',
  RCLONE_S3_NO_CHECK_BUCKET: 'true',
} as const;

/** Those for a program whose role may ask an S3 datasource; none where the caller has set any variable of theirs itself. */
export function s3Environment(
  reachesS3: boolean,
  asked: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const told = Object.keys(asked).some((name) => name.startsWith('AWS_'));
  return reachesS3 && !told ? S3_ENV : {};
}
