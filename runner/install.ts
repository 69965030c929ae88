import { OutriderError } from '#core/errors';
import { redactText } from '#core/redact';
import { type DependenciesSpec, dependencyRefusal, type PackageManager } from '#policies';
import type { AgentLink, Waiting } from './agent-link.ts';
import type { Registries, Requirement } from './dependencies.ts';
import type { Ending } from './exec.ts';
import { installedPackages, NPM_DIRECTORY, type Package, PIP_DIRECTORY } from './packages.ts';
import { waitingIn } from './profiles.ts';

/** One run of one manager, before anything foreign has run in the sandbox. */
export interface InstallStep {
  readonly manager: PackageManager;
  readonly argv: readonly string[];
  /** Besides what every program has. */
  readonly env: Readonly<Record<string, string>>;
}

export type Files = Pick<AgentLink, 'list' | 'read' | 'stat' | 'remove'>;

/** What became of one step: `detail` for the record, and `error` where the sandbox must not be used. */
export interface StepOutcome {
  readonly detail: string;
  readonly error: OutriderError | undefined;
}

/**
 * pip without the means to start a program: `--only-binary` holds for what pip finds in the index, and what a package of the
 * index names by address would be built all the same.
 */
const PIP = `import runpy, sys
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system")
def nothing_is_built(event, _arguments):
    if event in STARTS:
        raise PermissionError("nothing is built here: only wheels are installed")
sys.addaudithook(nothing_is_built)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
`;
/** Where npm's own files stand: beside /usr's Node, where a distribution or an image puts them. */
const NPM_HOMES = ['/usr/lib/node_modules', '/usr/local/lib/node_modules', '/usr/share/nodejs'];
const NPM_CACHE = '/tmp/.outrider-npm';
const LINES_MAX = 12;
const TEXT_MAX = 1_500;
const DETAIL_MAX = 2_000;

/**
 * The command lines that install these, pip's first. Neither builds nor runs anything of a package: pip takes wheels alone, npm
 * runs no scripts. @throws {OutriderError} DEPENDENCY_FAILED where the sandbox has no npm
 */
export async function installSteps(
  requirements: readonly Requirement[],
  registries: Registries,
  files: Files,
): Promise<InstallStep[]> {
  const steps: InstallStep[] = [];
  const texts = (manager: PackageManager) =>
    requirements.filter((one) => one.manager === manager).map(({ text }) => text);
  const [pip, npm] = [texts('pip'), texts('npm')];
  if (pip.length > 0 && registries.pip !== undefined) steps.push(pipStep(pip, registries.pip));
  if (npm.length > 0 && registries.npm !== undefined)
    steps.push(npmStep(npm, registries.npm, await npmProgram(files)));
  return steps;
}

/** Looks at how a step ended and at what it left, and holds every name against the role. Never rejects. */
export async function outcomeOf(
  { manager }: InstallStep,
  { killedBy, exitCode, detail, errorCode }: Ending,
  said: string,
  files: Files,
  role: DependenciesSpec | undefined,
): Promise<StepOutcome> {
  if (killedBy !== 'exit') {
    const code = errorCode || (killedBy === 'disconnect' ? 'CANCELLED' : 'DEPENDENCY_FAILED');
    return failed(new OutriderError(code, `${manager}: ${detail}`));
  }
  if (exitCode !== 0)
    return failed(new OutriderError('DEPENDENCY_FAILED', `${manager} failed:\n${lastLines(said)}`));
  try {
    const found = await installedPackages(manager, files);
    const refusal = found
      .map(({ name }) => dependencyRefusal(role, manager, name, false))
      .find((why) => why !== undefined);
    const error =
      refusal === undefined ? undefined : new OutriderError('DEPENDENCY_REFUSED', refusal);
    return { detail: summary(manager, found), error };
  } catch (error) {
    return failed(
      error instanceof OutriderError && error.code === 'DEPENDENCY_REFUSED'
        ? error
        : new OutriderError('DEPENDENCY_FAILED', `what ${manager} installed cannot be read`, {
            cause: error,
          }),
    );
  }
}

/** Takes away what only the managers needed. Never rejects. */
export async function tidy(files: Files): Promise<void> {
  await files.remove(NPM_CACHE, true).catch(() => {}); // there is none where npm was not asked
}

/** The environment in which programs find what pip installed, before what a program brings itself. */
export function packageEnvironment(
  env: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const { PYTHONPATH: own = '' } = env;
  return { ...env, PYTHONPATH: own === '' ? PIP_DIRECTORY : `${PIP_DIRECTORY}:${own}` };
}

/** What waits beside installed packages: nothing that has imported another version of one. */
export function waitingBeside(profileName: string): Waiting {
  const waiting = waitingIn(profileName);
  return profileName === 'python-data' ? { ...waiting, profile: 'python' } : waiting;
}

function pipStep(requirements: readonly string[], index: string): InstallStep {
  const { protocol, hostname } = new URL(index);
  return {
    manager: 'pip',
    argv: [
      ['python3', '-I', '-c', PIP, '--isolated', '--no-input', '--no-color'],
      ['--disable-pip-version-check', 'install', '--no-cache-dir', '--only-binary=:all:'],
      ['--progress-bar=off', '--target', PIP_DIRECTORY, '--index-url', index],
      // The operator chose an index without TLS: pip would pass it over.
      protocol === 'http:' ? ['--trusted-host', hostname] : [],
      ['--', ...requirements],
    ].flat(),
    // No file of the system or the image tells pip where to go.
    env: { PIP_CONFIG_FILE: '/dev/null', HOME: '/tmp' },
  };
}

function npmStep(requirements: readonly string[], registry: string, program: string): InstallStep {
  return {
    manager: 'npm',
    argv: [
      ['/opt/node/bin/node', program, 'install', '--ignore-scripts', '--no-audit', '--no-fund'],
      ['--no-save', '--no-package-lock', '--no-update-notifier', '--no-progress'],
      ['--loglevel', 'error', '--logs-max', '0', '--cache', NPM_CACHE],
      ['--git', '/bin/false'], // a repository may have to be built to become a package
      ['--userconfig', `${NPM_CACHE}/user`, '--globalconfig', `${NPM_CACHE}/global`],
      ['--prefix', NPM_DIRECTORY, '--registry', registry, '--', ...requirements],
    ].flat(),
    env: { HOME: '/tmp', NODE_DISABLE_COMPILE_CACHE: '1' },
  };
}

async function npmProgram(files: Files): Promise<string> {
  for (const home of NPM_HOMES) {
    const path = `${home}/npm/bin/npm-cli.js`;
    if (await files.stat(path).then(isFile, () => false)) return path;
  }
  throw new OutriderError(
    'DEPENDENCY_FAILED',
    `this sandbox has no npm: its system or image needs one in ${NPM_HOMES.join(' or ')}`,
  );
}

function isFile({ type }: { readonly type: string }): boolean {
  return type === 'file';
}

function failed(error: OutriderError): StepOutcome {
  return { detail: `install: ${error.message}`.slice(0, DETAIL_MAX), error };
}

function summary(manager: PackageManager, packages: readonly Package[]): string {
  const names = packages.map(({ name, version }) => `${name} ${version}`).join(', ');
  return `install: ${packages.length} packages with ${manager}: ${names}`.slice(0, DETAIL_MAX);
}

const SAID_MAX = 8_192;

/** The end of what a manager said, as plain text that no terminal obeys. */
function lastLines(said: string): string {
  const plain = said
    .slice(-SAID_MAX) // it is looked through for spaces at the ends of lines, again and again
    // oxlint-disable-next-line no-control-regex -- control characters are what is taken out
    .replace(/\x1b\[[0-9;]*[A-Za-z]|[^\S\n]+$|[\x00-\x09\x0b-\x1f\x7f]/gm, '')
    .trim();
  return redactText(plain.split('\n').slice(-LINES_MAX).join('\n').slice(-TEXT_MAX));
}
