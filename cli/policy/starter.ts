import type { PolicyFile } from '#policystore';
import { WrongUsage } from './command.ts';
import { EXAMPLE, type LibraryEntry, type Parameter, ROLE_ENTRY } from './library.ts';

/** The names and values that take the place of the examples. */
export interface StarterAsk {
  readonly role: string;
  readonly owner: string | undefined;
  /** By the name of a parameter, of one entry. */
  readonly words: ReadonlyMap<string, string>;
  /** Where the entry has places: at least one. */
  readonly places: readonly URL[];
}

/** The files of one entry for one role. @throws {WrongUsage} for a value that does not fit */
export function starterFiles(entry: LibraryEntry, ask: StarterAsk): PolicyFile[] {
  const place = entry.parameters.find(({ kind }) => kind === 'places');
  const files = place
    ? distinct(ask.places).flatMap((url, at) => placeFiles(entry, place, url, at + 1))
    : namedFiles(entry, '', '');
  const words = [
    ...entry.parameters.filter(({ kind }) => kind === 'word').map((one) => wordOf(entry, one, ask)),
    [EXAMPLE.role, ask.role] as const,
    ...(ask.owner === undefined ? [] : [[EXAMPLE.owner, ask.owner] as const]),
  ];
  return files.map(({ name, text }) => ({
    name: name.replaceAll(EXAMPLE.role, ask.role),
    text: replaced(text, words).replace(MODELINE, '$1./policy.schema.json'),
  }));
}

/** What still stands for something else in the files that were made. */
export function leftToChange(entry: LibraryEntry, ask: StarterAsk): Parameter[] {
  return entry.parameters.filter(
    ({ kind, name, default: usual }) =>
      kind === 'word' && usual === undefined && !ask.words.has(name),
  );
}

const MODELINE = /^(# yaml-language-server: \$schema=)\S+/m;

/** `egress-ROLE-ENTRY.yaml`, `test-ROLE-ENTRY.yaml`, `role-ROLE.yaml`. */
function namedFiles(entry: LibraryEntry, variant: string, suffix: string): PolicyFile[] {
  const about = entry.name === ROLE_ENTRY ? '' : `-${entry.name}${suffix}`;
  return (entry.variants.get(variant) ?? []).map(({ name, text }) => {
    const kind = name === 'policy.yaml' ? 'egress' : name.replace('.yaml', '');
    return { name: `${kind}-${EXAMPLE.role}${about}.yaml`, text };
  });
}

const EXAMPLE_PATH = '/example-path';
/** The two are never the same, whatever the port of a place is. */
const EXAMPLE_PORT = '8443';
const EXAMPLE_OTHER_PORT = '8444';

function placeFiles(
  entry: LibraryEntry,
  { example, name }: Parameter,
  url: URL,
  number: number,
): PolicyFile[] {
  const variant = url.protocol.slice(0, -1);
  const host = url.hostname.replace(/\.$/, '');
  if (!HOST.test(host))
    throw new WrongUsage(
      `${entry.name}.${name}: ${host} is no host name that a rule can name: packages need one, such as ${URL.parse(example)?.hostname}`,
    );
  const port = url.port || (variant === 'https' ? '443' : '80');
  const model = new URL(example);
  const suffix = number === 1 ? '' : `-${number}`;
  const words: readonly (readonly [string, string])[] = [
    [model.hostname, host],
    [EXAMPLE_PORT, port],
    [EXAMPLE_OTHER_PORT, port === EXAMPLE_PORT ? EXAMPLE_OTHER_PORT : EXAMPLE_PORT],
    // An example without a path has none of the places' paths in it either.
    [model.pathname === '/' ? EXAMPLE_PATH : model.pathname, url.pathname.replace(/\/+$/, '')],
    [`${EXAMPLE.role}-${entry.name}`, `${EXAMPLE.role}-${entry.name}${suffix}`],
  ];
  return namedFiles(entry, variant, suffix).map((file) => ({
    name: file.name,
    text: replaced(file.text, words),
  }));
}

/** The schema's host names; no addresses. */
const HOST = /^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$/;

/** Opaque tunnels to one host and port are one, whatever the path behind them. */
function distinct(places: readonly URL[]): URL[] {
  const key = ({ protocol, host, pathname }: URL) =>
    protocol === 'https:' ? host : `${protocol}${host}${pathname.replace(/\/+$/, '')}`;
  return [...new Map(places.map((url) => [key(url), url])).values()];
}

function wordOf(
  entry: LibraryEntry,
  { name, example, pattern, default: usual }: Parameter,
  { words }: StarterAsk,
): readonly [string, string] {
  const value = words.get(name) ?? usual ?? example;
  if (pattern !== undefined && !new RegExp(pattern).test(value))
    throw new WrongUsage(`${entry.name}.${name}: "${value}" must match ${pattern}`);
  return [example, value];
}

/** All at once, so that no value is taken for another example. */
function replaced(text: string, words: readonly (readonly [string, string])[]): string {
  const by = new Map(words);
  const escaped = [...by.keys()]
    .toSorted((a, b) => b.length - a.length)
    .map((word) => word.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return text.replaceAll(new RegExp(escaped.join('|'), 'g'), (word) => by.get(word) ?? word);
}
