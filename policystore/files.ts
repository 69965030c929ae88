import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { OutriderError } from '#core/errors';
import { printable } from '#core/printable';

/** One policy file as it was read. */
export interface PolicyFile {
  /** Relative to the directory, with `/`. */
  readonly name: string;
  readonly text: string;
}

/** Where policy files come from: a directory that this process may read, or whoever reads one for it. */
export interface PolicyFiles {
  /** Changes whenever a file is added, removed, replaced or written to. @throws {OutriderError} POLICY_INVALID where nothing can be read */
  signature(): Promise<string>;
  /** Every file, sorted by name. @throws {OutriderError} POLICY_INVALID where one cannot be read */
  read(): Promise<PolicyFile[]>;
}

/** The policy files beneath a directory. */
export function directoryFiles(directory: string): PolicyFiles {
  return {
    signature: () => policyFilesSignature(directory),
    read: () => readPolicyFiles(directory),
  };
}

/** A larger file is not one that somebody reviews. */
const FILE_MAX_BYTES = 1_048_576;
const FILES_MAX = 10_000;

/**
 * Every `*.yaml` and `*.yml` beneath a directory, sorted by name. Names that begin with a dot are left out; symbolic links are
 * followed as long as they stay inside (Kubernetes mounts ConfigMaps that way).
 * @throws {OutriderError} POLICY_INVALID where the directory cannot be read, or a link leads out of it
 */
export async function readPolicyFiles(directory: string): Promise<PolicyFile[]> {
  const paths = await listPolicyFiles(directory);
  return Promise.all(
    paths.map(async ({ name, path, bytes }) => {
      if (bytes > FILE_MAX_BYTES) throw invalid(`${name}: the file is larger than 1 MiB`);
      const content = await readFile(path).catch((error: unknown) => {
        throw invalid(`${name}: the file cannot be read${why(error)}`, error);
      });
      try {
        return {
          name,
          text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content),
        };
      } catch (error) {
        throw invalid(`${name}: the file is not UTF-8`, error);
      }
    }),
  );
}

/** Changes whenever a policy file is added, removed, replaced or written to. */
async function policyFilesSignature(directory: string): Promise<string> {
  const files = await listPolicyFiles(directory);
  return files.map(({ name, identity }) => `${name} ${identity}`).join('\n');
}

interface Listed {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly identity: string;
}

async function listPolicyFiles(directory: string): Promise<Listed[]> {
  try {
    const root = await realpath(directory);
    const found: Listed[] = [];
    await walk(root, root, [root], found);
    return found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    if (error instanceof OutriderError) throw error;
    throw invalid(`the policy directory ${directory} cannot be read${why(error)}`, error);
  }
}

async function walk(
  root: string,
  at: string,
  above: readonly string[],
  found: Listed[],
): Promise<void> {
  for (const entry of await readdir(at, { withFileTypes: true })) {
    if (entry.name.startsWith('.')) continue;
    const path = join(at, entry.name);
    const name = relative(root, path).split(sep).join('/');
    const isYaml = /\.ya?ml$/.test(entry.name);
    if (!isYaml && !entry.isDirectory() && !entry.isSymbolicLink()) continue;
    const real = await realpath(path).catch((error: unknown) => {
      if (!entry.isSymbolicLink()) throw error;
      throw invalid(`${name}: the link cannot be followed${why(error)}`, error);
    });
    const status = await stat(real, { bigint: true });
    if (!isYaml && !status.isDirectory()) continue;
    if (!real.startsWith(root + sep))
      throw invalid(`${name}: the link leads out of the policy directory`);
    if (status.isDirectory()) {
      if (above.includes(real))
        throw invalid(`${name}: the link leads back to a directory above it`);
      await walk(root, path, [...above, real], found);
    } else {
      // Reading a pipe might never end, and no later change would be seen.
      if (!status.isFile()) throw invalid(`${name}: it is no regular file`);
      const identity = `${status.ino} ${status.size} ${status.mtimeNs} ${status.ctimeNs}`;
      found.push({ name, path: real, bytes: Number(status.size), identity });
      if (found.length > FILES_MAX) throw invalid(`more than ${FILES_MAX} policy files`);
    }
  }
}

/** What is to be mended, where the system says no more than a word of its own. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is none',
  ENOTDIR: 'it is no directory',
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  ELOOP: 'it leads back to itself',
};

function why(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return code === '' ? '' : `: ${REASONS[code] ?? code}`;
}

/** Names of files, too, come from whoever wrote the policy: a message is one line. */
function invalid(message: string, cause?: unknown): OutriderError {
  return new OutriderError(
    'POLICY_INVALID',
    printable(message),
    cause === undefined ? {} : { cause },
  );
}
