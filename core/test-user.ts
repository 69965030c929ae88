import { join } from 'node:path';
import { packageRoot } from './package-root.ts';

/**
 * For tests alone. The command line by which root starts a command as another user, who finds the checkout beneath `directory` in a mount namespace of
 * its own: the directories above the checkout may be closed to others. Every path into the checkout is rewritten. The process keeps
 * its id through it all.
 */
export function asUser(uid: number, directory: string, argv: readonly string[]): string[] {
  const code = join(directory, 'code');
  const moved = argv.map((word) => word.replace(packageRoot, code));
  const script = 'mkdir -p "$1" && mount --bind "$0" "$1" && cd "$1" && shift && exec "$@"';
  const user = `--reuid=${uid} --regid=${uid} --clear-groups`.split(' ');
  return ['unshare', '-m', 'sh', '-c', script, packageRoot, code, 'setpriv', ...user, ...moved];
}
