// The AWS SDK as a program would use it, with the placeholder for a credential. Says what came of each step, one JSON object.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Readable } from 'node:stream';

const [endpoint = '', peers = ''] = process.argv.slice(2);
const require = createRequire(join(peers, 'package.json'));
const sdk = require('@aws-sdk/client-s3');
const { Upload } = require('@aws-sdk/lib-storage');

const client = new sdk.S3Client({
  endpoint,
  region: 'us-east-1',
  forcePathStyle: true,
  maxAttempts: 1,
  credentials: { accessKeyId: 'OUTRIDER', secretAccessKey: 'OUTRIDER' },
});
const Bucket = 'data';
const big = Buffer.alloc(11 * 1_048_576, 'outrider rides ');
const said = {};

/** What a step came to: what it says of itself, or how it failed. */
async function step(name, action) {
  try {
    said[name] = await action();
  } catch (error) {
    said[name] = { failed: error.$metadata?.httpStatusCode ?? String(error) };
  }
}
const send = (name, input) => client.send(new sdk[`${name}Command`]({ Bucket, ...input }));
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex');
const text = async (answer) => Buffer.from(await answer.Body.transformToByteArray()).toString();

await step('put', async () => {
  await send('PutObject', {
    Key: 'tenantA/a b=ü+!.txt',
    Body: 'outrider',
    Metadata: { who: 'me' },
  });
  return 'stored';
});
await step('head', async () => {
  const answer = await send('HeadObject', { Key: 'tenantA/a b=ü+!.txt' });
  return [answer.ContentLength, answer.Metadata.who];
});
await step('range', async () =>
  text(await send('GetObject', { Key: 'tenantA/a b=ü+!.txt', Range: 'bytes=3-5' })),
);
await step('stream', async () => {
  const Body = Readable.from([big.subarray(0, 3_000_000), big.subarray(3_000_000)]);
  await send('PutObject', { Key: 'tenantA/stream', Body, ContentLength: big.length });
  return sha(await text(await send('GetObject', { Key: 'tenantA/stream' }))) === sha(big);
});
await step('multipart', async () => {
  const params = { Bucket, Key: 'tenantA/parts', Body: Readable.from([big]) };
  await new Upload({ client, params }).done();
  return (await send('HeadObject', { Key: 'tenantA/parts' })).ETag;
});
await step('list', async () => {
  const answer = await send('ListObjectsV2', { Prefix: 'tenantA/' });
  return answer.Contents.map(({ Key }) => Key);
});
await step('other prefix', () => send('GetObject', { Key: 'tenantB/secret' }));
await step('list of all', () => send('ListObjectsV2', {}));
await step('copy', () =>
  send('CopyObject', { Key: 'tenantA/c', CopySource: 'data/tenantB/secret' }),
);
await step('acl', () => send('PutObjectAcl', { Key: 'tenantA/stream', ACL: 'public-read' }));
await step('delete', () => send('DeleteObject', { Key: 'tenantA/stream' }));
await step('delete many', () =>
  send('DeleteObjects', { Delete: { Objects: [{ Key: 'tenantA/stream' }] } }),
);
await step('missing', () => send('GetObject', { Key: 'tenantA/nothing' }));

process.stdout.write(`${JSON.stringify(said)}\n`);
