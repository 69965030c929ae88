import { type ConfigOf, type Field, loadConfig, type PARTS, type Spec } from '#core/config';
import { readConfigFile } from '#core/config-file';
import { assertAll } from '#core/config-problems';
import { toOutriderError } from '#core/errors';
import { runtimeDir, stateDir } from '#core/runtime-dir';
import { changedKeys, gatewaySpec, RELOADABLE } from '#gateway/config';
import { assertGatewayConfig } from '#gateway/config-check';
import { proxySpec } from '#proxy/config';
import { assertProxyConfig } from '#proxy/config-check';
import { runnerSpec } from '#runner/config';
import { assertRunnerConfig } from '#runner/config-check';
import { serverSpec } from '#server/config';
import { assertServerConfig } from '#server/config-check';
import { sidecarSpec } from '#sidecar/config';
import { assertSidecarConfig } from '#sidecar/config-check';
import { upSpec } from './up.ts';

type Env = Readonly<Record<string, string | undefined>>;
type Config = Readonly<Record<string, unknown>>;
type Part = (typeof PARTS)[number];

const USAGE = `usage: outrider config check FILE
       outrider config diff OLD NEW

check  says everything that is wrong with a configuration file, as the parts would read it here and refuse to start with it;
       whether the files that it names are there is not looked at
diff   says which keys of two files differ, and which of them a running part takes over; exit 1 where any does
`;

/** `outrider config`: 0 in order, 1 where something is wrong or differs, 2 for wrong usage. Starts nothing. */
export async function config(
  argv: readonly string[],
  env: Env,
  out: NodeJS.WritableStream,
  err: NodeJS.WritableStream,
): Promise<number> {
  const [verb, ...files] = argv;
  const [first, second] = files;
  const wanted = { check: 1, diff: 2 }[verb ?? ''];
  const isHelp = argv.includes('--help');
  if (isHelp || wanted !== files.length || first === undefined) {
    (isHelp ? out : err).write(USAGE);
    return isHelp ? 0 : 2;
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
  const file = { name, text: readConfigFile(name) };
  const configs = new Map<string, Config>();
  const read =
    <S extends Spec>(part: Part, spec: S, check: (loaded: ConfigOf<S>) => void = () => {}) =>
    () => {
      const loaded = loadConfig(part, spec, { argv: [], env, file });
      check(loaded);
      configs.set(part, loaded);
    };
  assertAll(
    read('gateway', gatewaySpec(paths), assertGatewayConfig),
    read('server', serverSpec(paths), assertServerConfig),
    // What starts these two, `outrider up` or a manifest, names the policies.
    read('runner', withPolicies(runnerSpec(paths)), assertRunnerConfig),
    read('sidecar', sidecarSpec(paths), assertSidecarConfig),
    read('proxy', withPolicies(proxySpec(paths)), assertProxyConfig),
    read('up', upSpec()),
  );
  return configs;
}

function withPolicies<S extends Spec & { readonly policies: Field<string> }>(spec: S): S {
  return { ...spec, policies: { ...spec.policies, default: upSpec().policies.default ?? '' } };
}

function differences(
  before: ReadonlyMap<string, Config>,
  after: ReadonlyMap<string, Config>,
): string[] {
  return [...before].flatMap(([part, old]) => {
    const now = after.get(part) ?? {};
    const changed = changedKeys(old, now);
    // A gateway refuses the whole of it then.
    const reloads = part === 'gateway' && !changed.includes('serversAre');
    return changed.map((key) => {
      const live = reloads && RELOADABLE.some((known) => known === key);
      return `${part}.${key}: ${shown(old[key])} -> ${shown(now[key])} (${live ? 'taken over while it runs' : 'needs a restart'})`;
    });
  });
}

function shown(value: unknown): string {
  return JSON.stringify(value) ?? 'absent';
}
