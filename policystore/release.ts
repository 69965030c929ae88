import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { OutriderError } from '#core/errors';
import { bundleContent, type Edition, editionFiles, openBundle, type Revision } from './bundle.ts';
import type { TrustedKey } from './bundle-keys.ts';
import type { PolicyFile, PolicyFiles } from './files.ts';
import type { SerialLedger } from './serials.ts';

/** The files of one policy, and which reviewed state they are, where that is known. */
export interface ReleasedFiles {
  readonly files: readonly PolicyFile[];
  /** Null for a directory, which no signature vouches for. */
  readonly revision: Revision | null;
  /** The digest that the files must have; null where nobody said. */
  readonly digest: string | null;
}

/** What a source offers at one moment. */
export interface Release {
  /** For all sandboxes but those of the canary. */
  readonly stable: ReleasedFiles;
  /** For a share of new sandboxes, more than 0 and less than 1. */
  readonly canary: (ReleasedFiles & { readonly share: number }) | null;
  /** Called when everything in it has been found sound, right before it takes effect. @throws where it must not */
  readonly accept: () => void;
}

/** Where a `PolicyStore` has its policy from. */
export interface PolicySource {
  /** Changes whenever what it offers could have changed. @throws {OutriderError} POLICY_INVALID where nothing can be read */
  signature(): Promise<string>;
  /** @throws {OutriderError} POLICY_INVALID */
  read(): Promise<Release>;
}

/** Files of a directory: whatever stands in them counts. */
export function directorySource(files: PolicyFiles): PolicySource {
  return {
    signature: () => files.signature(),
    read: async () => ({
      stable: { files: await files.read(), revision: null, digest: null },
      canary: null,
      accept: () => {},
    }),
  };
}

const BUNDLE_MAX_BYTES = 64 * 1_048_576;

/** A bundle: only what a trusted key has signed counts, and never what is older than something loaded before. */
export function bundleSource(
  file: PolicyFiles,
  keys: readonly TrustedKey[],
  ledger: SerialLedger,
): PolicySource {
  return {
    signature: () => file.signature(),
    read: async () => {
      const [only] = await file.read();
      const { bundle } = openBundle(only?.text ?? '', keys);
      const numbered = { serial: bundle.serial, content: bundleContent(bundle) };
      ledger.assertNotOlder(numbered);
      const { canary } = bundle;
      return {
        stable: released(canary?.base ?? bundle),
        canary: canary && { ...released(bundle), share: canary.share },
        accept: () => ledger.note(numbered),
      };
    },
  };
}

function released(edition: Edition): ReleasedFiles {
  const { commit, serial, digest } = edition;
  return { files: editionFiles(edition), revision: { commit, serial }, digest };
}

/** A bundle's file, as the only one. */
export function bundleFile(path: string): PolicyFiles {
  return {
    signature: async () => (await statusOf(path)).identity,
    read: async () => [{ name: basename(path), text: await readBundleText(path) }],
  };
}

/** The text of a bundle file. @throws {OutriderError} POLICY_INVALID */
export async function readBundleText(path: string): Promise<string> {
  const { bytes } = await statusOf(path);
  if (bytes > BUNDLE_MAX_BYTES) throw invalid('the policy bundle is larger than 64 MiB');
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw invalid(`the policy bundle ${path} cannot be read`, error);
  }
}

async function statusOf(path: string): Promise<{ identity: string; bytes: number }> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return { identity: `${ino} ${size} ${mtimeNs} ${ctimeNs}`, bytes: Number(size) };
  } catch (error) {
    throw invalid(`the policy bundle ${path} cannot be read`, error);
  }
}

function invalid(message: string, cause?: unknown): OutriderError {
  return new OutriderError('POLICY_INVALID', message, cause === undefined ? {} : { cause });
}
