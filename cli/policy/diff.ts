import { diffPolicySets, type PolicyChange } from '#policies/review';
import type { ParsedPolicy } from '#policystore';
import { linesOfChanges, markdownOfChanges } from './change-text.ts';
import {
  EXIT,
  onlyDirectory,
  type PolicyCommand,
  parseCommand,
  WrongUsage,
  writeJson,
} from './command.ts';
import { loadPolicy } from './source.ts';

/** `outrider policy diff`: what becomes possible, and what no longer is. */
export const command: PolicyCommand = {
  usage: `OLD NEW [--fail-on-widening] [--json | --markdown]
       outrider policy diff --git REV DIR [...]

Says what NEW permits and OLD does not, and the other way round: by meaning, not by text, each with an example request that
shows it. Widening is whatever becomes possible: newly allowed, limits raised, a credential, members, tools, a looser Boundary.

  --git REV            OLD is DIR as it is in this Git revision
  --fail-on-widening   exit 1 where anything widens
  --markdown           as a comment for a pull request

OLD and NEW are directories, or REV:PATH for one in a Git revision; one that a revision does not have is empty, and permits
nothing. Both must be sound; their PolicyTests are not run (\`outrider policy test\` does).
Exit: 0, also where they differ; 1 something widens, with --fail-on-widening; 2 one of them cannot be read, or wrong usage.
`,
  async run(argv, { out }) {
    const asked = parse(argv);
    const before = await loadPolicy(asked.before, true);
    const after = await loadPolicy(asked.after, true);
    const changes = diffPolicySets(before.set, after.set);
    const widening = changes.filter((change) => change.widening).length;
    if (asked.form === 'json')
      writeJson(out, {
        ok: widening === 0,
        widening,
        narrowing: changes.length - widening,
        ...facts(before, after, changes),
      });
    else
      out.write(
        (asked.form === 'markdown' ? markdownOfChanges : linesOfChanges)(changes)
          .map((line) => `${line}\n`)
          .join(''),
      );
    return asked.failOnWidening && widening > 0 ? EXIT.found : EXIT.fine;
  },
};

interface Asked {
  readonly before: string;
  readonly after: string;
  readonly failOnWidening: boolean;
  readonly form: 'text' | 'json' | 'markdown';
}

function parse(argv: readonly string[]): Asked {
  const { values, positionals } = parseCommand(argv, {
    json: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    'fail-on-widening': { type: 'boolean', default: false },
    git: { type: 'string' },
  });
  if (values.json && values.markdown) throw new WrongUsage('--json or --markdown, not both');
  return {
    ...sides(values.git, positionals),
    failOnWidening: values['fail-on-widening'],
    form: values.json ? 'json' : values.markdown ? 'markdown' : 'text',
  };
}

function sides(
  rev: string | undefined,
  positionals: readonly string[],
): Pick<Asked, 'before' | 'after'> {
  if (rev !== undefined) {
    const after = onlyDirectory(positionals);
    if (after.startsWith('/')) throw new WrongUsage('--git needs a directory relative to here');
    return { before: `${rev}:./${after}`, after };
  }
  const [before, after, ...more] = positionals;
  if (before === undefined || after === undefined || more.length > 0)
    throw new WrongUsage('which two? OLD and NEW');
  return { before, after };
}

function facts(
  before: ParsedPolicy,
  after: ParsedPolicy,
  changes: readonly PolicyChange[],
): object {
  return { before: { digest: before.digest }, after: { digest: after.digest }, changes };
}
