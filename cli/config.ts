import { readFileSync } from 'node:fs';
import { type Field, loadConfig, PARTS, type Spec } from '#core/config';
import { OutriderError, toOutriderError } from '#core/errors';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { changedKeys, gatewaySpec, RELOADABLE } from '#gateway/config';
import { proxySpec } from '#proxy/config';
import { runnerSpec } from '#runner/config';
import { serverSpec } from '#server/config';
import { sidecarSpec } from '#sidecar/config';
import { upSpec } from './up.ts';

type Env = Readonly<Record<string, string | undefined>>;
type Config = Readonly<Record<string, unknown>>;

const USAGE = `usage: outrider config check FILE
       outrider config diff OLD NEW

check  says everything that is wrong with a configuration file, as the parts would read it here
diff   says which keys of two files differ, and which of them a running part takes over; exit 1 where any does
`;

/** `outrider config`: 0 in order, 1 where something is wrong or differs, 2 for wrong usage. Starts nothing. */
export async function config(
  [verb, ...files]: readonly string[],
  env: Env,
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  const [first, second] = files;
  const wanted = { check: 1, diff: 2 }[verb ?? ''];
  if (wanted !== files.length || first === undefined) {
    (verb === '--help' ? out : err).write(USAGE);
    return verb === '--help' ? 0 : 2;
  }
  try {
    const before = readParts(first, env);
    if (second === undefined) {
      out.write(`${first}: nothing wrong\n`);
      return 0;
    }
    const lines = differences(before, readParts(second, env));
    out.write(lines.map((line) => `${line}\n`).join(''));
    return lines.length > 0 ? 1 : 0;
  } catch (thrown) {
    err.write(`${toOutriderError(thrown).message}\n`);
    return 1;
  }
}

/** Every part's section of a file. @throws {OutriderError} CONFIG_INVALID with every problem at once, one a line */
function readParts(name: string, env: Env): ReadonlyMap<string, Config> {
  const uid = process.getuid?.() ?? 0;
  const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
  const specs: Readonly<Record<(typeof PARTS)[number], Spec>> = {
    gateway: gatewaySpec(paths),
    server: serverSpec(paths),
    // What starts these two, `outrider up` or a manifest, names the policies.
    runner: withPolicies(runnerSpec(paths)),
    sidecar: sidecarSpec(paths),
    proxy: withPolicies(proxySpec(paths)),
    up: upSpec(),
  };
  const file = { name, text: textOf(name) };
  const problems = new Set<string>();
  const configs = new Map<string, Config>();
  for (const part of PARTS)
    try {
      configs.set(part, loadConfig(part, specs[part], { argv: [], env, file }));
    } catch (error) {
      for (const line of toOutriderError(error).message.split('\n')) problems.add(line);
    }
  if (problems.size > 0) throw new OutriderError('CONFIG_INVALID', [...problems].join('\n'));
  return configs;
}

function withPolicies(spec: Spec & { readonly policies: Field<string> }): Spec {
  return { ...spec, policies: { ...spec.policies, default: upSpec().policies.default ?? '' } };
}

function textOf(name: string): string {
  try {
    return readFileSync(name, 'utf8');
  } catch (error) {
    throw new OutriderError('CONFIG_INVALID', `the configuration ${name} cannot be read`, {
      cause: error,
    });
  }
}

function differences(
  before: ReadonlyMap<string, Config>,
  after: ReadonlyMap<string, Config>,
): string[] {
  return [...before].flatMap(([part, old]) => {
    const now = after.get(part) ?? {};
    return changedKeys(old, now).map((key) => {
      const live = part === 'gateway' && RELOADABLE.some((known) => known === key);
      return `${part}.${key}: ${shown(old[key])} -> ${shown(now[key])} (${live ? 'taken over while it runs' : 'needs a restart'})`;
    });
  });
}

function shown(value: unknown): string {
  return JSON.stringify(value) ?? 'absent';
}
