import type { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import { loadConfig } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { OutriderError, toOutriderError } from '#core/errors';
import { ensurePrivateDir, runtimeDir, stateDir } from '#core/runtime-dir';
import { proxySpec } from '#proxy/config';
import {
  addKey,
  changingKeys,
  dropOldKeys,
  makeKeyFile,
  PEM_MAX_BYTES,
  parseSlot,
  readKeyRing,
  SecretStore,
  slotText,
} from '#proxy/secrets';

const USAGE = `usage: outrider secret set|rotate store:INSTANCE:NAME [--config FILE] < VALUE
       outrider secret list [--json] [--config FILE]
       outrider secret rm store:INSTANCE:NAME [--config FILE]
       outrider secret rotate --key|--key-given [--config FILE]

The encrypted store of this machine, which a secretRef of the policy names slots of. A running proxy takes a change up within a
second. The value is read from stdin, its last line feed removed; it is never an argument, which others could see.

  set           sets a slot, whether there is one or not
  rotate        sets a slot that there is
  list          names and dates, no values
  rm            removes a slot
  rotate --key  makes a new key, seals everything anew with it, and forgets the key before the last
  rotate --key-given
                the same where a new key was put first into the variable that proxy.secretStore.key names

Where the store and its key are: proxy.secretStore.dir and proxy.secretStore.key (docs/config.md).
Exit: 0 done; 1 refused; 2 wrong usage.
`;

type Env = Readonly<Record<string, string | undefined>>;
interface Io {
  readonly stdin: Readable & { readonly isTTY?: boolean | undefined };
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}
/** What the command's verbs work on. */
interface Place {
  readonly store: SecretStore;
  readonly keyPlace: string;
  readonly env: Env;
  readonly io: Io;
}

/** `outrider secret`: 0 where it is done, 1 where it is refused, 2 for wrong usage. No value is ever written anywhere but sealed. */
export async function secret(argv: readonly string[], env: Env, io: Io): Promise<number> {
  if (argv.length === 0 || argv.includes('--help')) {
    (argv.length === 0 ? io.stderr : io.stdout).write(USAGE);
    return argv.length === 0 ? 2 : 0;
  }
  try {
    const { argv: words, file } = takeConfigFile(argv);
    const asked = parse(words);
    const uid = process.getuid?.() ?? 0;
    const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
    const spec = proxySpec(paths);
    // The section is the proxy's, and may be given to it by other ways: here its policies are not needed.
    const ofProxy = { ...spec, policies: { ...spec.policies, default: '' } };
    const config = loadConfig('proxy', ofProxy, { argv: [], env, file });
    const keyPlace = config['secretStore.key'];
    if (asked.verb === 'set') ensurePrivateDir(paths.state);
    const store = new SecretStore(config['secretStore.dir'], () => readKeyRing(keyPlace, env));
    await run(asked, { store, keyPlace, env, io });
    return 0;
  } catch (thrown) {
    if (thrown instanceof WrongUsage) {
      io.stderr.write(`outrider secret: ${thrown.message}\n\n${USAGE}`);
      return 2;
    }
    io.stderr.write(`outrider secret: ${toOutriderError(thrown).message}\n`);
    return 1;
  }
}

class WrongUsage extends Error {}

interface Asked {
  readonly verb: string;
  readonly slot: string | undefined;
  readonly json: boolean;
  readonly key: 'new' | 'given' | undefined;
}

function parse(argv: readonly string[]): Asked {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        key: { type: 'boolean', default: false },
        'key-given': { type: 'boolean', default: false },
      },
    });
    const [verb = '', slot, ...more] = positionals;
    if (more.length > 0)
      throw new WrongUsage('the value is read from stdin, never given as an argument');
    return {
      verb,
      slot,
      json: values.json,
      key: values.key ? 'new' : values['key-given'] ? 'given' : undefined,
    };
  } catch (error) {
    // Its message names the option alone, and an option could be a value with a dash before it.
    throw error instanceof WrongUsage ? error : new WrongUsage('there is no such option');
  }
}

async function run({ verb, slot, json, key }: Asked, place: Place): Promise<void> {
  if (verb === 'list' && slot === undefined) return list(place, json);
  if (verb === 'rotate' && slot === undefined && key) return rotateKey(place, key);
  if (!['set', 'rotate', 'rm'].includes(verb)) throw new WrongUsage('there is no such command');
  if (slot === undefined || key) throw new WrongUsage('which slot? store:INSTANCE:NAME');
  const named = parseSlot(slot);
  const { store, io, keyPlace } = place;
  if (verb === 'rm') store.remove(named);
  else {
    if (verb === 'rotate' && !store.has(named))
      throw new OutriderError('NOT_FOUND', `there is no ${slotText(named)}: set it first`);
    const value = await readValue(io.stdin);
    // What is sealed needs its own key: a new one in its place would only hide that it is gone.
    if (verb === 'set' && store.isEmpty) makeKeyFile(keyPlace);
    store.set(named, value);
  }
  io.stdout.write(`${slotText(named)} ${verb === 'rm' ? 'removed' : 'set'}\n`);
}

function list({ store, io }: Place, json: boolean): void {
  const slots = store.list();
  if (json) {
    const shown = slots.map((one) => ({
      slot: slotText(one),
      changedAt: one.changedAt,
      key: one.key,
    }));
    io.stdout.write(`${JSON.stringify(shown)}\n`);
    return;
  }
  for (const one of slots) io.stdout.write(`${one.changedAt}  ${slotText(one)}\n`);
}

/** Interrupted at any moment it can be run again: the old key is there until nothing needs it. */
function rotateKey({ store, keyPlace, env, io }: Place, key: 'new' | 'given'): void {
  const count = changingKeys(keyPlace, () => {
    if (key === 'new') addKey(keyPlace, env);
    const resealed = store.reseal();
    dropOldKeys(keyPlace, env);
    return resealed;
  });
  io.stdout.write(`${count} secrets are sealed with the key ${readKeyRing(keyPlace, env)[0].id}\n`);
}

/** @throws {OutriderError} INVALID_REQUEST; {WrongUsage} at a terminal, which would show what is typed */
async function readValue(stdin: Io['stdin']): Promise<string> {
  if (stdin.isTTY)
    throw new WrongUsage('the value comes by a pipe or from a file, so that no terminal shows it');
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of stdin) {
    const bytes = Buffer.from(piece);
    size += bytes.length;
    if (size > PEM_MAX_BYTES + 2)
      throw new OutriderError('INVALID_REQUEST', `a secret has at most ${PEM_MAX_BYTES} bytes`);
    pieces.push(bytes);
  }
  return Buffer.concat(pieces)
    .toString('utf8')
    .replace(/\r?\n$/, '');
}
