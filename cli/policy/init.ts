import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { nearest } from '#core/nearest';
import { packageRoot } from '#core/package-root';
import { directoryFiles, loadFiles, type PolicyFile } from '#policystore';
import { EXIT, type PolicyCommand, parseCommand, WrongUsage, writeJson } from './command.ts';
import { EXAMPLE, type LibraryEntry, type Parameter, ROLE_ENTRY, readLibrary } from './library.ts';
import { placesOf } from './registries.ts';
import { leftToChange, type StarterAsk, starterFiles } from './starter.ts';

const SCHEMA = 'policy.schema.json';

/** `outrider policy init`: the first documents of a role, out of the library. */
export const command: PolicyCommand = {
  usage: `ROLE [--with NAME,...] [--set NAME.PARAMETER=VALUE]... [--owner TEAM] [--out DIR] [--json]
       outrider policy init --list [--json]

Writes a role, what it may reach, and the tests of both into DIR (policies, unless told), each with the schema for your editor.
They are checked and tested together with what is there already before anything is written; no file is replaced.

  --with    entries of the library; without it, a role that reaches nothing
  --set     what differs: npm.registry=URL, github-read.owner=NAME; see --list and docs/library.md.
            Where npm, pip and debian packages come from is read from this machine's npm, pip and apt.
  --list    says what the library has

Exit: 0 they are written; 2 they cannot be, or wrong usage.
`,
  async run(argv, io) {
    const { values, positionals } = parseCommand(argv, {
      with: { type: 'string', multiple: true, default: [] },
      set: { type: 'string', multiple: true, default: [] },
      owner: { type: 'string' },
      out: { type: 'string', default: 'policies' },
      list: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    });
    const library = readLibrary();
    if (values.list) {
      list(library, values.json, io.out);
      return EXIT.fine;
    }
    const role = roleFrom(positionals);
    if (values.owner !== undefined && !/^[\w.@-]{1,64}$/.test(values.owner))
      throw new WrongUsage('--owner is 1 to 64 letters, digits and . _ @ -');
    const entries = chosen(library, values.with);
    const set = settings(entries, values.set);
    const asks = await Promise.all(entries.map((entry) => askOf(entry, role, values.owner, set)));

    const present = existsSync(values.out) ? await directoryFiles(values.out).read() : [];
    const made = entries.flatMap((entry, at) => starterFiles(entry, asks[at] ?? NOTHING));
    const files = withoutKnown(made, present);
    for (const { name } of files)
      if (existsSync(join(values.out, name)))
        throw new OutriderError('INVALID_REQUEST', `${join(values.out, name)} is there already`);
    const { digest } = loadFiles([...present, ...files]);
    write(values.out, files);

    const left = entries.flatMap((entry, at) =>
      leftToChange(entry, asks[at] ?? NOTHING).map((one) => ({
        set: `${entry.name}.${one.name}`,
        example: one.example,
        about: one.about,
      })),
    );
    const written = files.map(({ name }) => join(values.out, name));
    if (values.json) writeJson(io.out, { ok: true, digest, files: written, left });
    else {
      for (const path of written) io.out.write(`${path}\n`);
      io.out.write(`checked and tested, digest ${digest}\n`);
      for (const { set: key, example, about } of left)
        io.out.write(`to change: ${example} (${about}; or --set ${key}=...)\n`);
      if (values.owner === undefined)
        io.out.write(`to change: ${EXAMPLE.owner} (who owns it; or --owner ...)\n`);
    }
    return EXIT.fine;
  },
};

const NOTHING: StarterAsk = { role: '', owner: undefined, words: new Map(), places: [] };

function list(
  library: ReadonlyMap<string, LibraryEntry>,
  json: boolean,
  out: NodeJS.WritableStream,
): void {
  const entries = [...library.values()].filter(({ name }) => name !== ROLE_ENTRY);
  if (json) {
    writeJson(
      out,
      entries.map(({ name, title, about, parameters }) => ({ name, title, about, parameters })),
    );
    return;
  }
  for (const { name, title, parameters } of entries) {
    out.write(`${name.padEnd(16)} ${title}\n`);
    for (const one of parameters) out.write(`${' '.repeat(17)}${name}.${one.name}: ${one.about}\n`);
  }
}

/** Leaves room for what is appended to it in the names of policies. @throws {WrongUsage} */
function roleFrom([role, ...more]: readonly string[]): string {
  if (role === undefined || more.length > 0) throw new WrongUsage('which role? Exactly one');
  if (!/^[a-z][a-z0-9-]{0,39}$/.test(role))
    throw new WrongUsage(
      'a role is 1 to 40 lower-case letters, digits and dashes, beginning with a letter',
    );
  return role;
}

function chosen(
  library: ReadonlyMap<string, LibraryEntry>,
  asked: readonly string[],
): LibraryEntry[] {
  const names = new Set([ROLE_ENTRY, ...asked.flatMap((one) => one.split(',')).filter(Boolean)]);
  return [...names].map((name) => {
    const entry = library.get(name);
    if (entry) return entry;
    const meant = nearest(name, [...library.keys()]);
    throw new WrongUsage(
      `the library has no "${name}"${meant === undefined ? ': see --list' : `; did you mean "${meant}"?`}`,
    );
  });
}

/** The values of `--set`, by `entry.parameter`; places may be given more than once. @throws {WrongUsage} */
function settings(
  entries: readonly LibraryEntry[],
  given: readonly string[],
): ReadonlyMap<string, readonly string[]> {
  const known = new Map<string, Parameter>(
    entries.flatMap(({ name, parameters }) =>
      parameters.map((parameter) => [`${name}.${parameter.name}`, parameter] as const),
    ),
  );
  const values = new Map<string, string[]>();
  for (const text of given) {
    const [, key = '', value = ''] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    const parameter = known.get(key);
    if (!parameter) {
      const meant = nearest(key, [...known.keys()]);
      throw new WrongUsage(
        `--set ${text}: no entry that is asked for has it${meant === undefined ? '' : `; did you mean ${meant}?`}`,
      );
    }
    const before = values.get(key) ?? [];
    if (before.length > 0 && parameter.kind === 'word')
      throw new WrongUsage(`--set ${key} is given twice`);
    values.set(key, [...before, value]);
  }
  return values;
}

/** @throws {WrongUsage} where places are wanted that nobody names */
async function askOf(
  { name, parameters }: LibraryEntry,
  role: string,
  owner: string | undefined,
  set: ReadonlyMap<string, readonly string[]>,
): Promise<StarterAsk> {
  const words = new Map(
    parameters.flatMap((one) => {
      const value = one.kind === 'word' ? set.get(`${name}.${one.name}`)?.[0] : undefined;
      return value === undefined ? [] : [[one.name, value] as const];
    }),
  );
  const place = parameters.find(({ kind }) => kind === 'places');
  if (!place) return { role, owner, words, places: [] };
  const told = set.get(`${name}.${place.name}`);
  const places = told
    ? told.map((text) => placeFrom(name, text))
    : await placesOf(place.from ?? 'npm');
  if (!places)
    throw new WrongUsage(
      `${place.from} does not say where packages come from on this machine: --set ${name}.${place.name}=URL`,
    );
  return { role, owner, words, places };
}

function placeFrom(name: string, text: string): URL {
  const url = URL.parse(text);
  if (url && /^https?:$/.test(url.protocol) && url.username + url.password === '') return url;
  throw new WrongUsage(`${name}: ${text} is no http(s) URL without user information`);
}

/** A role, a datasource or a credential that is there already is shared, not made again. */
function withoutKnown(made: readonly PolicyFile[], present: readonly PolicyFile[]): PolicyFile[] {
  const known = new Set(present.flatMap(({ text }) => documentsOf(text).map(nameOf)));
  return made.flatMap(({ name, text }) => {
    const documents = documentsOf(text);
    const kept = documents.filter((one) => !(isShared(one) && known.has(nameOf(one))));
    if (kept.length === 0) return [];
    return [{ name, text: kept.length === documents.length ? text : kept.join('---\n') }];
  });
}

function documentsOf(text: string): string[] {
  return text.split(/^---\n/m);
}

function isShared(document: string): boolean {
  return /^kind: (?:Role|Datasource|CredentialBinding)$/m.test(document);
}

/** Kind, type and name, as far as they tell one shared document from another. */
function nameOf(document: string): string {
  const [, kind = ''] = /^kind: (\w+)/m.exec(document) ?? [];
  const [, name = ''] = /^metadata:\s*\{?\s*name: ([\w-]+)/m.exec(document) ?? [];
  const [, type = ''] = kind === 'Datasource' ? (/^ {2}type: (\w+)/m.exec(document) ?? []) : [];
  return `${kind} ${type} ${name}`;
}

function write(directory: string, files: readonly PolicyFile[]): void {
  try {
    mkdirSync(directory, { recursive: true });
    for (const { name, text } of files) writeFileSync(join(directory, name), text, { flag: 'wx' });
    if (!existsSync(join(directory, SCHEMA)))
      writeFileSync(join(directory, SCHEMA), readFileSync(join(packageRoot, SCHEMA)));
  } catch (error) {
    throw new OutriderError('INVALID_REQUEST', `${directory} cannot be written to`, {
      cause: error,
    });
  }
}
