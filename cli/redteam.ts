import { redteam as run } from '#redteam';

/** `outrider redteam`: the battery of attacks, as a command of this program. */
export function redteam(argv: readonly string[], self: readonly string[]): Promise<number> {
  return run(argv, { out: process.stdout, err: process.stderr, self });
}
