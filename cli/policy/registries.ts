import { execFile } from 'node:child_process';

/** Who on this machine knows where packages come from. */
export type Client = 'npm' | 'pip' | 'apt';

/**
 * Where a client of this machine gets packages from, by its own word and in its order: companies have mirrors, and only the
 * client's configuration knows them. User information in an address is left out.
 * @returns undefined where the client is not there, or does not say
 */
export async function placesOf(client: Client): Promise<URL[] | undefined> {
  const places = (await READ[client]()).flatMap((text) => {
    const url = URL.parse(text);
    if (!url || !/^https?:$/.test(url.protocol)) return [];
    url.username = '';
    url.password = '';
    return [url];
  });
  const unique = new Map(places.map((url) => [url.href, url]));
  return unique.size === 0 ? undefined : [...unique.values()];
}

const READ: Readonly<Record<Client, () => Promise<string[]>>> = {
  npm: async () => npmRegistries(await output('npm', ['config', 'ls', '--json'])),
  pip: pipIndexes,
  apt: async () => aptArchives(await output('apt-get', ['--print-uris', 'update'])),
};

/** What stands before `dists/` in what `apt-get update` would fetch; it fetches nothing here. */
function aptArchives(listing: string): string[] {
  return lines(listing).flatMap((line) => /^'([^']+)\/dists\//.exec(line)?.[1] ?? []);
}

/** The registry, and those of scopes. Npm does not show one with a password in it. */
function npmRegistries(json: string): string[] {
  const config = parsed(json);
  const scoped = Object.keys(config).filter((key) => /^@[^:]+:registry$/.test(key));
  return ['registry', ...scoped].flatMap((key) => {
    const value = config[key];
    return typeof value === 'string' ? [value] : [];
  });
}

/** The index, where pip's own is meant also the host of its files, and further indexes. */
async function pipIndexes(): Promise<string[]> {
  const config = pipConfig(await output('python3', ['-m', 'pip', 'config', 'list']));
  const [own = '', files = ''] = lines(await output('python3', ['-c', PIP_DEFAULTS]));
  const index = config('index-url')[0] ?? own;
  const host = URL.parse(index)?.hostname;
  const hasOwnFiles = host !== undefined && host === URL.parse(own)?.hostname;
  return [index, ...(hasOwnFiles ? [`https://${files}/`] : []), ...config('extra-index-url')];
}

const PIP_DEFAULTS = `
from pip._internal.models.index import PyPI
print(PyPI.simple_url)
print(PyPI.file_storage_domain)
`;

/** A key of `pip config list` by precedence: the environment, what is for \`install\`, what is for every command. */
function pipConfig(listing: string): (key: string) => string[] {
  const values = new Map(
    lines(listing).flatMap((line) => {
      const [, key, value] = /^(\S+?)='(.*)'$/.exec(line) ?? [];
      return key === undefined || value === undefined ? [] : [[key, value] as const];
    }),
  );
  return (key) => {
    const found = [':env:', 'install', 'global']
      .map((section) => values.get(`${section}.${key}`))
      .find((value) => value !== undefined);
    return (found ?? '').split(/\\n|\s+/).filter((part) => part !== '');
  };
}

function parsed(json: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(json));
  } catch {
    return {};
  }
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

const WITHIN_MS = 30_000;

/** What a program prints; nothing where it is not there or fails. */
function output(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: WITHIN_MS }, (error, stdout) =>
      resolve(error ? '' : stdout),
    );
  });
}
