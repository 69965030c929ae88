import { existsSync } from 'node:fs';
import { OutriderError } from '#core/errors';
import { directoryFiles, type ParsedPolicy, type PolicyFile, parseFiles } from '#policystore';
import { parseRevision, readRevision } from './git-revision.ts';

/**
 * The policy files that DIR of a command line names: a directory, or `REV:PATH` for one in a Git revision where no file of
 * that name exists.
 * @throws {OutriderError} POLICY_INVALID, INVALID_REQUEST where they cannot be read
 */
export async function readPolicy(source: string): Promise<PolicyFile[]> {
  const revision = existsSync(source) ? undefined : parseRevision(source);
  return revision ? readRevision(revision) : directoryFiles(source).read();
}

/**
 * As `readPolicy`, parsed; the PolicyTests have not been run.
 * @throws {OutriderError} POLICY_INVALID, each line with the source before it where `named`
 */
export async function loadPolicy(source: string, named = false): Promise<ParsedPolicy> {
  try {
    return parseFiles(await readPolicy(source));
  } catch (error) {
    if (!named || !(error instanceof OutriderError)) throw error;
    const lines = error.message.split('\n').map((line) => `${source}: ${line}`);
    throw new OutriderError(error.code, lines.join('\n'), { cause: error.cause });
  }
}
