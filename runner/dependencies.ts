import { OutriderError } from '#core/errors';
import {
  type DependenciesSpec,
  dependencyRefusal,
  isPackageName,
  PACKAGE_MANAGERS,
  type PackageManager,
} from '#policies';

/** One thing to install, as its manager spells it: a name, and which versions of it will do. */
export interface Requirement {
  readonly manager: PackageManager;
  readonly name: string;
  /** The whole text; the manager reads it as a requirement of its registry and as nothing else. */
  readonly text: string;
}

/** Where packages come from: `http(s)://host/path/`, without user information. */
export interface Registries {
  readonly pip?: string | undefined;
  readonly npm?: string | undefined;
}

const REQUIREMENTS_MAX = 32;
const TEXT_MAX = 256;

/**
 * Reads what a caller wants installed; the grammar has no address, file, option, alias, marker or command.
 * @throws {OutriderError} INVALID_REQUEST
 */
export function parseRequirements(
  asked: readonly { readonly manager: string; readonly requirement: string }[],
): Requirement[] {
  if (asked.length > REQUIREMENTS_MAX)
    throw invalid(`${asked.length} dependencies are more than ${REQUIREMENTS_MAX}`);
  return asked.map(({ manager, requirement }, index) => {
    const known = PACKAGE_MANAGERS.find((one) => one === manager);
    if (!known)
      throw invalid(`dependencies[${index}].manager must be ${PACKAGE_MANAGERS.join(' or ')}`);
    // Before it is looked at: what is written without a bound takes its time.
    const short = requirement.length <= TEXT_MAX ? requirement : '';
    const text = short.trim().replaceAll(SPACES[known], '$1');
    const name = NAME_OF[known](text);
    if (name === undefined || !isPackageName(known, name) || ARCHIVE.test(name))
      throw invalid(
        `dependencies[${index}].requirement must be a name with versions, as ${EXAMPLE[known]}`,
      );
    return { manager: known, name, text };
  });
}

/**
 * Holds what is asked for against the role and the runner.
 * @throws {OutriderError} DEPENDENCY_REFUSED
 */
export function assertInstallable(
  requirements: readonly Requirement[],
  role: DependenciesSpec | undefined,
  registries: Registries,
): void {
  for (const { manager, name } of requirements) {
    const refusal = dependencyRefusal(role, manager, name, true);
    if (refusal !== undefined) throw new OutriderError('DEPENDENCY_REFUSED', refusal);
    if (registries[manager] === undefined)
      throw new OutriderError(
        'DEPENDENCY_REFUSED',
        `this runner installs nothing with ${manager}: runner.${REGISTRY_KEY[manager]} is not configured`,
      );
  }
}

const REGISTRY_KEY: Readonly<Record<PackageManager, string>> = {
  pip: 'pipIndex',
  npm: 'npmRegistry',
};
const EXAMPLE: Readonly<Record<PackageManager, string>> = {
  pip: 'requests[socks]>=2.31,<3',
  npm: 'left-pad@^1.3.0',
};

/** What may stand beside an operator or a comma; between two versions of npm's it means "and". */
const SPACES: Readonly<Record<PackageManager, RegExp>> = {
  pip: / *([,<>=!~]+) */g,
  npm: /([<>=~^]) +/g,
};

/** The part of https://packaging.python.org/en/latest/specifications/dependency-specifiers/ that names a package of the index. */
const PIP_VERSION = '(?:==|!=|<=|>=|~=|<|>)[A-Za-z0-9][A-Za-z0-9._!+*-]*';
const PIP_EXTRA = '[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?';
const PIP = new RegExp(
  `^([A-Za-z0-9._-]+)(?:\\[${PIP_EXTRA}(?:,${PIP_EXTRA})*\\])?(?:${PIP_VERSION}(?:,${PIP_VERSION})*)?$`,
);

/** A semantic version, a range of them, or a tag: https://docs.npmjs.com/cli/using-npm/package-spec. */
const NPM_PART = '(?:\\d{1,10}|[xX*])';
const NPM_VERSION = `(?:\\^|~|>=|<=|>|<|=)?v?${NPM_PART}(?:\\.${NPM_PART}){0,2}(?:-[0-9A-Za-z.-]+)?(?:\\+[0-9A-Za-z.-]+)?`;
const NPM_RANGE = `${NPM_VERSION}(?:(?: - | *\\|\\| *| +)${NPM_VERSION})*`;
const NPM = new RegExp(
  `^(@[^@/\\s]+/[^@/\\s]+|[^@/\\s]+)(?:@(?:${NPM_RANGE}|[A-Za-z][A-Za-z-]*))?$`,
);

/** Both managers take what ends so for a file. */
const ARCHIVE = /\.(?:whl|zip|tgz|tar|tbz|txz|tlz|tar\.[a-z0-9]+)$/i;

const NAME_OF: Readonly<Record<PackageManager, (text: string) => string | undefined>> = {
  pip: (text) => (ARCHIVE.test(text) ? undefined : PIP.exec(text)?.[1]),
  npm: (text) => (ARCHIVE.test(text) ? undefined : NPM.exec(text)?.[1]),
};

function invalid(message: string): OutriderError {
  return new OutriderError('INVALID_REQUEST', message);
}
