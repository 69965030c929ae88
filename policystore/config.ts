import { statSync } from 'node:fs';
import { join } from 'node:path';
import { type ConfigOf, choice, optionalText, text } from '#core/config';
import { OutriderError } from '#core/errors';
import { readTrustedKeys } from './bundle-keys.ts';
import { directoryFiles, type PolicyFiles } from './files.ts';
import { bundleFile, bundleSource, directorySource, type PolicySource } from './release.ts';
import { SerialLedger } from './serials.ts';

/** The keys of a part's section that say where its policy comes from. */
export function policySpec(part: string, state: string) {
  return {
    policies: text(
      'The directory of policy documents, or a bundle made by `outrider policy bundle`',
    ),
    policyKeys: optionalText(
      'Whose bundles are loaded: a file of public keys, or a directory of *.pub.json and *.pem',
    ),
    policyRequire: choice(
      'bundle: a directory is refused, as production wants it',
      ['any', 'bundle'],
      'any',
    ),
    policySerials: text(
      'Where the highest serial of a bundle is noted, so that an older one is refused after a restart, too',
      join(state, `${part}-policies`, 'serial.json'),
    ),
  };
}

type PolicyConfig = ConfigOf<ReturnType<typeof policySpec>>;

/**
 * The source that a part's configuration names. `filesAt` reads what stands there for a process that may not do so itself.
 * @throws {OutriderError} CONFIG_INVALID for a directory where a bundle is required, and for a bundle without `policyKeys`
 */
export function configuredPolicies(
  part: string,
  { policies, policyKeys, policyRequire, policySerials }: PolicyConfig,
  filesAt: (path: string) => PolicyFiles = policyFilesAt,
): PolicySource {
  const kind = kindOf(policies);
  if (kind !== 'file' && policyRequire === 'any') return directorySource(filesAt(policies));
  if (kind === 'directory')
    throw invalid(
      `${part}.policies is a directory, and ${part}.policyRequire wants a bundle: make one with \`outrider policy bundle\``,
    );
  if (policyKeys === undefined)
    throw invalid(
      `${part}.policies is a bundle, so ${part}.policyKeys must say whose bundles are loaded`,
    );
  return bundleSource(
    filesAt(policies),
    readTrustedKeys(policyKeys),
    new SerialLedger(policySerials),
  );
}

/** The files of a directory, or a bundle as the only file: whichever stands there when they are read. */
export function policyFilesAt(path: string): PolicyFiles {
  const now = (): PolicyFiles =>
    kindOf(path) === 'file' ? bundleFile(path) : directoryFiles(path);
  return { signature: () => now().signature(), read: () => now().read() };
}

/** What is not there, or not to be looked at by this process, is said by whoever reads it. */
function kindOf(path: string): 'file' | 'directory' | 'unknown' {
  try {
    return statSync(path).isDirectory() ? 'directory' : 'file';
  } catch {
    return 'unknown';
  }
}

function invalid(message: string): OutriderError {
  return new OutriderError('CONFIG_INVALID', message);
}
