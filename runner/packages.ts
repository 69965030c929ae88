import { basename } from 'node:path';
import { OutriderError } from '#core/errors';
import { isPackageName, type PackageManager, packageName } from '#policies';
import type { AgentLink } from './agent-link.ts';

/** Where pip puts packages; programs find it by PYTHONPATH. */
export const PIP_DIRECTORY = '/workspace/.outrider/python';
/** npm's packages stand in its node_modules, where programs of the workspace look. */
export const NPM_DIRECTORY = '/workspace';

/** One package as it calls itself. */
export interface Package {
  readonly name: string;
  readonly version: string;
}

type Files = Pick<AgentLink, 'list' | 'read'>;

/** More are not looked at, so they are refused. */
const PACKAGES_MAX = 1_024;

/**
 * What a manager has installed, also as a dependency of a dependency, by the names that the packages have and by those that they
 * stand under. Nothing of a package is run. @throws {OutriderError} DEPENDENCY_REFUSED where that cannot be told for certain
 */
export async function installedPackages(manager: PackageManager, files: Files): Promise<Package[]> {
  const found = manager === 'pip' ? await pipPackages(files) : await npmPackages(files);
  for (const { name } of found) if (!isPackageName(manager, name)) throw unreadable(manager, name);
  return found;
}

/** https://packaging.python.org/en/latest/specifications/recording-installed-packages/ */
async function pipPackages(files: Files): Promise<Package[]> {
  const found: Package[] = [];
  for (const { path } of await directories(files, PIP_DIRECTORY)) {
    if (!path.endsWith('.dist-info')) continue;
    const [, stem, version] = /\/([^/]+)-([^/-]+)\.dist-info$/.exec(path) ?? [];
    if (stem === undefined || version === undefined) throw unreadable('pip', basename(path));
    const text = (await files.read(`${path}/METADATA`)).toString('utf8');
    const [, name = ''] = /^Name: *(\S+) *\r?$/m.exec(text) ?? [];
    found.push({ name, version });
    if (packageName('pip', name) !== packageName('pip', stem)) found.push({ name: stem, version });
    if (found.length > PACKAGES_MAX) throw tooMany();
  }
  return found;
}

/** https://docs.npmjs.com/cli/configuring-npm/folders: node_modules, with packages, scopes, and node_modules of packages. */
async function npmPackages(files: Files): Promise<Package[]> {
  const found: Package[] = [];
  const queue = [`${NPM_DIRECTORY}/node_modules`];
  for (let root = queue.pop(); root !== undefined; root = queue.pop()) {
    for (const { path } of await directories(files, root)) {
      const name = path.slice(root.length + 1);
      if (name.startsWith('.')) continue; // .bin
      const below = name.startsWith('@') ? await directories(files, path) : [{ path }];
      for (const { path: home } of below) {
        const stands = home.slice(root.length + 1);
        const own = await ownName(files, home);
        found.push({ name: stands, version: own.version });
        if (own.name !== stands) found.push(own); // an alias
        queue.push(`${home}/node_modules`);
      }
      if (found.length > PACKAGES_MAX) throw tooMany();
    }
  }
  return found;
}

async function ownName(files: Files, home: string): Promise<Package> {
  const file: unknown = JSON.parse((await files.read(`${home}/package.json`)).toString('utf8'));
  const { name, version } = Object(file) as { name?: unknown; version?: unknown }; // oxlint-disable-line typescript/no-unsafe-type-assertion -- every field may be missing or anything
  if (typeof name !== 'string') throw unreadable('npm', home);
  return { name, version: typeof version === 'string' ? version.slice(0, 64) : '' };
}

/** The directories in a directory; none where it does not exist. A link could be anything, so it is refused. */
async function directories(files: Files, path: string): Promise<{ readonly path: string }[]> {
  try {
    const { files: entries, next } = await files.list(path, 1);
    if (next !== '') throw tooMany();
    if (entries.some(({ type }) => type === 'symlink'))
      throw new OutriderError('DEPENDENCY_REFUSED', 'a package is a link to something else');
    return entries.filter(({ type }) => type === 'directory');
  } catch (error) {
    if (error instanceof OutriderError && error.code === 'FILE_NOT_FOUND') return [];
    throw error;
  }
}

function tooMany(): OutriderError {
  return new OutriderError(
    'DEPENDENCY_REFUSED',
    `more packages were installed than the ${PACKAGES_MAX} that can be looked at`,
  );
}

function unreadable(manager: PackageManager, what: string): OutriderError {
  return new OutriderError('DEPENDENCY_REFUSED', `${manager} installed what has no name`, {
    cause: new Error(what.slice(0, 256)),
  });
}
