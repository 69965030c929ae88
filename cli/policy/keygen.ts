import { createPrivateKey } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { OutriderError } from '#core/errors';
import { writePrivateFile } from '#core/runtime-dir';
import { generateSigningKey, publicIssuer } from '#core/tokens';
import { keyId } from '#policystore';
import { EXIT, type PolicyCommand, parseCommand, WrongUsage, writeJson } from './command.ts';

/** `outrider policy keygen`: the key that bundles are signed with. */
export const command: PolicyCommand = {
  usage: `NAME [--json]

Makes an Ed25519 key: NAME.key.json signs bundles and is readable by its owner alone; NAME.pub.json goes to runners and proxies,
as \`policyKeys\`. Nothing that is there is replaced.

Exit: 0 it is made; 2 it cannot be, or wrong usage.
`,
  async run(argv, io) {
    const { values, positionals } = parseCommand(argv, {
      json: { type: 'boolean', default: false },
    });
    const [name, ...more] = positionals;
    if (name === undefined || more.length > 0) throw new WrongUsage('which name? Exactly one');
    const [secret, open] = [`${name}.key.json`, `${name}.pub.json`];
    for (const path of [secret, open])
      if (existsSync(path))
        throw new OutriderError('INVALID_REQUEST', `${path} is there: choose another name`);
    const key = generateSigningKey('outrider:policy');
    try {
      writePrivateFile(secret, `${JSON.stringify(key)}\n`);
      writeFileSync(open, `${JSON.stringify([publicIssuer(key)])}\n`);
    } catch (error) {
      throw new OutriderError('INVALID_REQUEST', `${secret} cannot be written`, { cause: error });
    }
    const id = keyId(createPrivateKey({ key: { ...key.jwk }, format: 'jwk' }));
    if (values.json) writeJson(io.out, { ok: true, keyId: id, private: secret, public: open });
    else
      io.out.write(`${secret}  signs bundles: keep it where they are made\n${open}  key ${id}\n`);
    return EXIT.fine;
  },
};
