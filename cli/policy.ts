import { OutriderError } from '#core/errors';
import { nearest } from '#core/nearest';
import { EXIT, type PolicyCommand, reportError, WrongUsage } from './policy/command.ts';

const USAGE = `usage: outrider policy COMMAND

  check DIR                what the mesh would say to these documents
  test DIR                 the PolicyTests, which rules they cover, and what they would not notice
  diff OLD NEW             what becomes allowed or denied, for whom, each with an example
  explain DIR --request R  what would become of one request, and why
  suggest DIR AUDIT...     the smallest addition that would have allowed what an audit shows as refused
  simulate DIR AUDIT...    what would become of the requests of an audit under another policy
  bundle DIR --key FILE    a reviewed commit, signed, for production; with --canary for a share of new sandboxes
  rollback BUNDLE          what was in force before, under a new serial
  keygen NAME              the key that bundles are signed with
  init ROLE                a role that may run programs, with what it may reach out of the library

DIR, OLD and NEW are directories, or REV:PATH for one in a Git revision. Each command has --json and --help.
Exit: 0 nothing to complain of; 1 something was found; 2 it cannot be read, or wrong usage.
`;

/** Each loads only itself. */
const COMMANDS: Readonly<Record<string, () => Promise<{ readonly command: PolicyCommand }>>> = {
  check: () => import('./policy/check.ts'),
  test: () => import('./policy/test.ts'),
  diff: () => import('./policy/diff.ts'),
  explain: () => import('./policy/explain.ts'),
  suggest: () => import('./policy/suggest.ts'),
  simulate: () => import('./policy/simulate.ts'),
  bundle: () => import('./policy/bundle.ts'),
  rollback: () => import('./policy/rollback.ts'),
  keygen: () => import('./policy/keygen.ts'),
  init: () => import('./policy/init.ts'),
};

/**
 * `outrider policy`: runs one of its commands, and resolves to its exit code. Answers go to `out`, with `--json` as JSON; what is
 * wrong with the call or the policy goes to `err`.
 */
export async function policy(
  [name, ...argv]: readonly string[],
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  if (name === undefined || name === '--help' || name === '-h') {
    (name === undefined ? err : out).write(USAGE);
    return name === undefined ? EXIT.unusable : EXIT.fine;
  }
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!load) {
    const meant = nearest(name, Object.keys(COMMANDS));
    const hint = meant === undefined ? '' : `; did you mean "${meant}"?`;
    err.write(`there is no \`outrider policy ${name}\`${hint}\n\n${USAGE}`);
    return EXIT.unusable;
  }
  const { command } = await load();
  const usage = `usage: outrider policy ${name} ${command.usage}`;
  if (argv.includes('--help') || argv.includes('-h')) {
    out.write(usage);
    return EXIT.fine;
  }
  try {
    return await command.run(argv, { out, err });
  } catch (error) {
    if (error instanceof WrongUsage) err.write(`${error.message}\n\n${usage}`);
    else if (error instanceof OutriderError)
      reportError(error, argv.includes('--json'), { out, err });
    else throw error;
    return EXIT.unusable;
  }
}
