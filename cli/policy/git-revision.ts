import { execFile } from 'node:child_process';
import { OutriderError } from '#core/errors';
import type { PolicyFile } from '#policystore';

/** As policystore reads a directory: a larger file is not one that somebody reviews. */
const FILE_MAX_BYTES = 1_048_576;
const FILES_MAX = 10_000;
const OUTPUT_MAX_BYTES = 256 * 1_048_576;

/** `REV:PATH`, the path as Git takes it: from the top of the work tree, or from here with a leading `./`. */
export interface Revision {
  readonly rev: string;
  readonly path: string;
}

/** Takes `REV:PATH` apart; undefined where the text has no such form. */
export function parseRevision(text: string): Revision | undefined {
  const colon = text.indexOf(':');
  return colon < 1 ? undefined : { rev: text.slice(0, colon), path: text.slice(colon + 1) };
}

/**
 * The policy files of a directory in a Git revision, sorted by name, read from the repository that `cwd` is in; nothing is
 * checked out. A revision that does not have the directory has no files, which is a policy that denies everything.
 * @throws {OutriderError} INVALID_REQUEST for what is no revision; POLICY_INVALID for links and files that are too large
 */
export async function readRevision(
  { rev, path }: Revision,
  cwd: string = process.cwd(),
): Promise<PolicyFile[]> {
  // Git would take it for an option, wherever it stands.
  if (rev.startsWith('-')) throw invalidRevision(rev);
  const commit = (
    await git(cwd, ['rev-parse', '--verify', '--quiet', '--end-of-options', `${rev}^{commit}`])
  )
    ?.toString()
    .trim();
  if (commit === undefined) throw invalidRevision(rev);
  const top = (await git(cwd, ['rev-parse', '--show-cdup']))?.toString().trim() ?? '';
  const prefix = (await git(cwd, ['rev-parse', '--show-prefix']))?.toString().trim() ?? '';
  const directory = directoryOf(path, prefix);
  const listed = await git(cwd, ['ls-tree', '-r', '-z', '--full-tree', commit, '--', directory]);
  const entries = parseTree(listed?.toString() ?? '', directory);
  const blobs = await readBlobs(
    top === '' ? cwd : `${cwd}/${top}`,
    entries.map(({ object }) => object),
  );
  return entries.map(({ name }, at) => ({ name, text: decode(name, blobs[at]) }));
}

/** From the top of the repository, without `.` and with a slash at its end; `./` alone is the top itself. */
function directoryOf(path: string, prefix: string): string {
  const fromHere = /^\.\.?(?:\/|$)/.test(path);
  const steps: string[] = [];
  for (const step of `${fromHere ? prefix : ''}${path}`.split('/')) {
    if (step === '..' && steps.pop() === undefined)
      throw new OutriderError('INVALID_REQUEST', `${path} leads out of the repository`);
    if (step !== '' && step !== '.' && step !== '..') steps.push(step);
  }
  return `${steps.join('/')}/`.replace(/^\/$/, './');
}

interface Entry {
  readonly name: string;
  readonly object: string;
}

/** The policy files of `ls-tree -z`, by the rules by which a directory is read. */
function parseTree(listing: string, directory: string): Entry[] {
  const under = directory === './' ? '' : directory;
  const entries: Entry[] = [];
  for (const line of listing.split('\0')) {
    const [, mode = '', object = '', path = ''] = /^(\d+) \w+ ([0-9a-f]+)\t(.+)$/s.exec(line) ?? [];
    if (path === '' || !path.startsWith(under)) continue;
    const name = path.slice(under.length);
    if (name.split('/').some((step) => step.startsWith('.'))) continue;
    if (mode === '120000' || mode === '160000')
      throw invalid(`${name}: links and submodules are not followed in a Git revision`);
    if (/\.ya?ml$/.test(name)) entries.push({ name, object });
  }
  if (entries.length > FILES_MAX) throw invalid(`more than ${FILES_MAX} policy files`);
  return entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The contents of objects, in the order asked for (`git cat-file --batch`). */
async function readBlobs(cwd: string, objects: readonly string[]): Promise<Buffer[]> {
  if (objects.length === 0) return [];
  const output = await git(cwd, ['cat-file', '--batch'], `${objects.join('\n')}\n`);
  if (output === undefined) throw invalid('git cat-file cannot read the revision');
  const blobs: Buffer[] = [];
  for (let at = 0; at < output.length; ) {
    const end = output.indexOf('\n', at);
    const size = Number(/ blob (\d+)$/.exec(output.toString('latin1', at, end))?.[1]);
    if (!Number.isSafeInteger(size)) throw invalid('git cat-file cannot read the revision');
    blobs.push(output.subarray(end + 1, end + 1 + size));
    at = end + 1 + size + 1;
  }
  return blobs;
}

function decode(name: string, content: Buffer | undefined): string {
  if (content === undefined) throw invalid(`${name}: git cat-file did not give it`);
  if (content.length > FILE_MAX_BYTES) throw invalid(`${name}: the file is larger than 1 MiB`);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch (error) {
    throw invalid(`${name}: the file is not UTF-8`, error);
  }
}

/** What a Git command prints; undefined where it fails. @throws {OutriderError} INVALID_REQUEST where there is no Git */
export function git(cwd: string, args: readonly string[], input = ''): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      'git',
      // A repository must not choose programs that run here.
      ['-c', 'core.fsmonitor=false', '--no-replace-objects', ...args],
      { cwd, encoding: 'buffer', maxBuffer: OUTPUT_MAX_BYTES },
      (error, stdout) => {
        if (error?.code === 'ENOENT')
          reject(new OutriderError('INVALID_REQUEST', 'git is not installed', { cause: error }));
        else resolve(error ? undefined : stdout);
      },
    );
    // It may end before it has read everything; how it ended is what counts.
    child.stdin?.on('error', () => {}).end(input);
  });
}

function invalidRevision(rev: string): OutriderError {
  return new OutriderError('INVALID_REQUEST', `there is no commit "${rev}" in a repository here`);
}

function invalid(message: string, cause?: unknown): OutriderError {
  return new OutriderError('POLICY_INVALID', message, cause === undefined ? {} : { cause });
}
