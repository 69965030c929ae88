import { OutriderError } from '#core/errors';
import { directoryFiles, type LoadedPolicy, loadFiles } from '#policystore';
import { git, readRevision } from './git-revision.ts';

/** A policy directory whose files are exactly those of a commit that a branch has. */
export interface ReviewedState {
  readonly commit: string;
  readonly loaded: LoadedPolicy;
}

/**
 * Reads a policy directory out of the commit that is checked out, and loads it as the mesh does.
 *
 * What is only here is refused: files that differ from the commit, also where Git was told to overlook that, and a commit that
 * `branch` does not have. Where the branch of that name exists at `origin`, that one counts and not the local one, which
 * anybody here can move.
 * @throws {OutriderError} POLICY_UNREVIEWED for what is not reviewed; POLICY_INVALID for what would not load
 */
export async function reviewedState(directory: string, branch: string): Promise<ReviewedState> {
  const commit = await textOf(directory, ['rev-parse', '--verify', '--quiet', 'HEAD^{commit}']);
  if (commit === undefined)
    throw unreviewed(`${directory} is in no Git repository, or nothing is committed there`);
  await assertClean(directory);
  await assertOn(directory, commit, branch);
  const loaded = loadFiles(await readRevision({ rev: commit, path: './' }, directory));
  const here = loadFiles(await directoryFiles(directory).read());
  if (here.digest !== loaded.digest)
    throw unreviewed(
      `the documents here are not those of commit ${commit.slice(0, 12)}, though Git calls them unchanged: look for ignored files, links, and files marked with \`git update-index\``,
    );
  return { commit, loaded };
}

/** Room between the serials of two commits, for roll-backs. */
const SERIALS_PER_COMMIT = 1_000;

/**
 * A serial that grows with the history of the branch: an old commit that is bundled again has the serial that it had, so running
 * an old job once more cannot bring an old policy back.
 * @throws {OutriderError} POLICY_UNREVIEWED in a shallow clone, which does not know its history
 */
export async function serialOf(directory: string, commit: string): Promise<number> {
  const shallow = await textOf(directory, ['rev-parse', '--is-shallow-repository']);
  const count = await textOf(directory, ['rev-list', '--count', '--first-parent', commit]);
  if (shallow !== 'false' || count === undefined)
    throw unreviewed(
      'the clone is shallow, so the serial cannot be counted: fetch the whole history, or give --serial',
    );
  return Number(count) * SERIALS_PER_COMMIT;
}

const SHOWN_MAX = 5;

async function assertClean(directory: string): Promise<void> {
  const status = await textOf(directory, [
    'status',
    '--porcelain=v1',
    '--untracked-files=all',
    '--',
    '.',
  ]);
  if (status === undefined) throw unreviewed('git status fails there');
  if (status === '') return;
  const lines = status.split('\n');
  const more = lines.length > SHOWN_MAX ? `\n  and ${lines.length - SHOWN_MAX} more` : '';
  throw unreviewed(
    `the work tree is dirty: commit, or remove, what nobody has reviewed:\n  ${lines.slice(0, SHOWN_MAX).join('\n  ')}${more}`,
  );
}

async function assertOn(directory: string, commit: string, branch: string): Promise<void> {
  for (const ref of [
    `refs/remotes/origin/${branch}`,
    `refs/remotes/${branch}`,
    `refs/heads/${branch}`,
  ]) {
    const tip = await textOf(directory, ['rev-parse', '--verify', '--quiet', `${ref}^{commit}`]);
    if (tip === undefined) continue;
    if ((await git(directory, ['merge-base', '--is-ancestor', commit, tip])) !== undefined) return;
    throw unreviewed(`commit ${commit.slice(0, 12)} is not merged: ${ref} does not have it`);
  }
  throw unreviewed(`there is no branch "${branch}": name the reviewed one with --branch`);
}

async function textOf(directory: string, args: readonly string[]): Promise<string | undefined> {
  return (await git(directory, args))?.toString().trimEnd();
}

function unreviewed(message: string): OutriderError {
  return new OutriderError('POLICY_UNREVIEWED', message);
}
