import {
  type Bundle,
  type Canary,
  readBundleKey,
  sealBundle,
  sortedDocuments,
  stableEdition,
} from '#policystore';
import { needed, readBundle, serialFrom, trustedBy, writeBundle } from './bundle-file.ts';
import {
  EXIT,
  onlyDirectory,
  type PolicyCommand,
  parseCommand,
  WrongUsage,
  writeJson,
} from './command.ts';
import { reviewedState, serialOf } from './reviewed-state.ts';

/** `outrider policy bundle`: a reviewed state of a directory, signed, for production. */
export const command: PolicyCommand = {
  usage: `DIR --key FILE --out FILE [--branch NAME] [--serial N]
                               [--canary SHARE --base FILE [--keys FILE]] [--json]

Signs the documents of DIR, as the commit that is checked out has them, into one file that production loads.
Refused: a work tree that is dirty in DIR, a commit that the branch does not have, documents that do not load or pass
their tests.

  --key FILE      the private key: \`outrider policy keygen\`
  --out FILE      the bundle; one that is there is replaced at once
  --branch NAME   the reviewed branch, main unless told; that of origin, where there is one
  --serial N      unless told: 1000 times the number of commits (first parents) up to this one
  --canary SHARE  only this share of new sandboxes gets it, such as 0.1; the others stay with --base
  --base FILE     the bundle in force
  --keys FILE     public keys that the base may be signed with; unless told, that of --key

Exit: 0 it is written; 2 it is refused, or wrong usage.
`,
  async run(argv, io) {
    const { values, positionals } = parseCommand(argv, {
      key: { type: 'string' },
      out: { type: 'string' },
      branch: { type: 'string', default: 'main' },
      serial: { type: 'string' },
      canary: { type: 'string' },
      base: { type: 'string' },
      keys: { type: 'string' },
      json: { type: 'boolean', default: false },
    });
    const directory = onlyDirectory(positionals);
    const key = readBundleKey(needed('key', values.key, 'key'));
    const out = needed('out', values.out, 'file for the bundle');
    const share = values.canary === undefined ? undefined : shareFrom(values.canary);
    if ((share === undefined) !== (values.base === undefined))
      throw new WrongUsage('--canary and --base go together: what do all other sandboxes get?');
    const serial = values.serial === undefined ? undefined : serialFrom(values.serial);
    const { commit, loaded } = await reviewedState(directory, values.branch);
    const canary: Canary | null =
      share === undefined || values.base === undefined
        ? null
        : {
            share,
            base: stableEdition(await readBundle(values.base, trustedBy(key, values.keys))),
          };
    const bundle: Bundle = {
      serial: serial ?? (await serialOf(directory, commit)),
      commit,
      digest: loaded.digest,
      documents: sortedDocuments(Object.values(loaded.documents).flat()),
      madeAt: new Date().toISOString(),
      canary,
    };
    writeBundle(out, sealBundle(bundle, key));
    const { documents, ...said } = bundle;
    if (values.json)
      writeJson(io.out, {
        ok: true,
        ...said,
        canary: canary && { share: canary.share, base: canary.base.serial },
        documents: documents.length,
      });
    else
      io.out.write(
        `${out}: serial ${bundle.serial}, commit ${commit}, ${documents.length} documents\ndigest ${bundle.digest}\n${
          canary
            ? `canary: ${canary.share} of new sandboxes; the others stay with serial ${canary.base.serial}\n`
            : ''
        }`,
      );
    return EXIT.fine;
  },
};

/** @throws {WrongUsage} */
function shareFrom(text: string): number {
  const share = /^0?\.\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (share > 0 && share < 1) return share;
  throw new WrongUsage('--canary is a share between 0 and 1, such as 0.1');
}
