import { Transform } from 'node:stream';
import type { SignatureChain } from './chunk-decoder.ts';
import { ChunkDecoder } from './chunk-decoder.ts';
import { ChunkEncoder, chunkBytesOf } from './chunk-encoder.ts';
import { signingKey } from './sigv4.ts';
import { PLACEHOLDER, type Upload } from './upload.ts';

/**
 * The body that goes to S3, from the one that the caller sends: its own chunks taken apart and verified, and chunks of ours signed
 * with `chain`. The last of them goes out only after the whole of the caller's body has been found right; before that the other side
 * has an upload that is cut. Memory is one chunk, whatever the length.
 */
export function recodeUpload(
  upload: Upload & { readonly length: number },
  chain: SignatureChain,
): Transform {
  const { trailer } = upload;
  const recoding = new Transform({
    transform(bytes: Buffer, _encoding, done) {
      attempt(done, () => (decoder ? decoder.push(bytes) : encoder.push(bytes)));
    },
    flush(done) {
      attempt(done, () => {
        decoder?.end();
        const value = decoder?.trailer;
        encoder.end(
          trailer === undefined || value === undefined ? undefined : { name: trailer, value },
        );
      });
    },
  });
  const encoder = new ChunkEncoder(
    chain,
    chunkBytesOf(upload.length, upload.signedBytes),
    (bytes) => recoding.push(bytes),
  );
  const decoder =
    upload.framing === 'aws-chunked'
      ? new ChunkDecoder({
          chain: callerChain(upload),
          length: upload.length,
          trailer,
          onData: (data) => encoder.push(data),
          onVerified: (hash, length) => encoder.hashed(hash, length),
        })
      : undefined;
  return recoding;
}

function callerChain({ signature }: Upload): SignatureChain | undefined {
  if (!signature) return undefined;
  const { scope } = signature;
  return { key: signingKey(PLACEHOLDER.secretAccessKey, scope), scope, seed: signature.signature };
}

function attempt(done: (error?: Error | null) => void, step: () => void): void {
  try {
    step();
    done();
  } catch (error) {
    done(error instanceof Error ? error : new Error('a body could not be read'));
  }
}
