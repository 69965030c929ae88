import { type Bundle, readBundleKey, sealBundle, stableEdition } from '#policystore';
import { needed, readBundle, serialFrom, trustedBy, writeBundle } from './bundle-file.ts';
import { EXIT, type PolicyCommand, parseCommand, WrongUsage, writeJson } from './command.ts';

/** `outrider policy rollback`: what was in force before, under a new serial. */
export const command: PolicyCommand = {
  usage: `BUNDLE --key FILE [--to FILE] [--out FILE] [--serial N] [--keys FILE] [--json]

Goes back: an older serial is never loaded again, so the old documents are signed under a new one. Without --to, BUNDLE must
be a canary, and everything gets what it was tried against.

  --key FILE   the private key
  --to FILE    the older bundle to go back to
  --out FILE   the new bundle; unless told, BUNDLE itself is replaced, at once
  --serial N   unless told: one more than BUNDLE has
  --keys FILE  public keys that the bundles may be signed with; unless told, that of --key

Exit: 0 it is written; 2 it cannot be, or wrong usage.
`,
  async run(argv, io) {
    const { values, positionals } = parseCommand(argv, {
      key: { type: 'string' },
      to: { type: 'string' },
      out: { type: 'string' },
      serial: { type: 'string' },
      keys: { type: 'string' },
      json: { type: 'boolean', default: false },
    });
    const [path, ...more] = positionals;
    if (path === undefined || more.length > 0) throw new WrongUsage('which bundle? Exactly one');
    const key = readBundleKey(needed('key', values.key, 'key'));
    const trusted = trustedBy(key, values.keys);
    const now = await readBundle(path, trusted);
    if (values.to === undefined && now.canary === null)
      throw new WrongUsage('the bundle is no canary: name the older one with --to');
    const old = values.to === undefined ? now : await readBundle(values.to, trusted);
    const serial = values.serial === undefined ? now.serial + 1 : serialFrom(values.serial);
    if (serial <= now.serial)
      throw new WrongUsage(`--serial must be more than ${now.serial}, or nobody would load it`);
    const back: Bundle = {
      ...stableEdition(old),
      serial,
      madeAt: new Date().toISOString(),
      canary: null,
    };
    const out = values.out ?? path;
    writeBundle(out, sealBundle(back, key));
    const { commit, digest } = back;
    if (values.json) writeJson(io.out, { ok: true, serial, commit, digest });
    else io.out.write(`${out}: serial ${serial}, commit ${commit}\ndigest ${digest}\n`);
    return EXIT.fine;
  },
};
