import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';
import { type Address, formatAddress, parseAddress } from './address.ts';
import { OutriderError } from './errors.ts';
import { isRecord } from './is-record.ts';
import { nearest } from './nearest.ts';
import { TIMER_MAX_MS } from './timer-max.ts';

/** Loaded where there is YAML to read: most processes get all their configuration from the command line and the environment. */
const parseDocument: typeof Yaml.parseDocument = (source, options) => {
  const yaml: typeof Yaml = createRequire(import.meta.url)('yaml');
  return yaml.parseDocument(source, options);
};

/** One key of a part's configuration. */
export interface Field<T> {
  /** Becomes docs/config.md. */
  readonly doc: string;
  /** The kind of value, for messages and docs: "address", "duration (ms, s, m, h)". */
  readonly kind: string;
  /** Absent: the key must be given. */
  readonly default?: T;
  /** Reads a value from YAML, or text from the environment or the command line; throws an Error that says what is expected. */
  readonly parse: (raw: unknown) => T;
  /** How the default is written in the docs. */
  readonly show?: (value: T) => string;
  /** The keys of a mapping, or of each mapping of a list. */
  readonly keys?: Spec;
}

// oxlint-disable-next-line typescript/no-explicit-any -- the bound must accept a Field of any value type
export type Spec = Readonly<Record<string, Field<any>>>;
export type ConfigOf<S extends Spec> = {
  readonly [K in keyof S]: S[K] extends Field<infer T> ? T : never;
};

export interface ConfigSources {
  /** Long options after the command: `--listen 127.0.0.1:1`, `--allowed-hosts=a,b`, `--insecure`. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The text of the YAML file, where one was named. */
  readonly file?: { readonly name: string; readonly text: string } | undefined;
}

/**
 * The configuration of one part: command line over environment over file over default.
 *
 * A key `auth.jwks` of the part `gateway` is `--auth-jwks`, `OUTRIDER_GATEWAY_AUTH_JWKS`, and `gateway: {auth: {jwks: ...}}`
 * in the file, which may hold the sections of every part. `${VAR}` and `${VAR:-default}` in the file are replaced first.
 * @throws {OutriderError} CONFIG_INVALID with every problem at once, one a line
 */
export function loadConfig<S extends Spec>(
  part: string,
  spec: S,
  sources: ConfigSources,
  sections: readonly string[] = PARTS,
): ConfigOf<S> {
  const problems: string[] = [];
  const given = new Map<string, { raw: unknown; from: string }>();
  const keys = Object.keys(spec);

  for (const [key, raw] of fileKeys(part, keys, sources, sections, problems))
    given.set(key, { raw, from: sources.file?.name ?? 'file' });
  for (const [key, raw, from] of envKeys(part, keys, sources.env, problems))
    given.set(key, { raw, from });
  for (const [key, raw, from] of argvKeys(keys, spec, sources.argv, problems))
    given.set(key, { raw, from });

  const values: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(spec)) {
    const value = given.get(key);
    if (value === undefined) {
      if (!('default' in field))
        problems.push(`${part}.${key} is required (${field.kind}): ${field.doc}`);
      values[key] = field.default;
      continue;
    }
    const name = `${part}.${key} (from ${value.from}): `;
    for (const read of parsed(field, value.raw, name, problems)) values[key] = read;
  }
  if (problems.length > 0) throw new OutriderError('CONFIG_INVALID', problems.join('\n'));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every key of the spec was parsed by its own field above
  return values as ConfigOf<S>;
}

/** Sections that one file may hold. */
export const PARTS = ['gateway', 'server', 'runner', 'sidecar', 'proxy', 'up'] as const;

/** How the command of a part is called, with an option for each key of its configuration. */
export function partUsage(part: string, spec: Spec): string {
  const options = Object.entries(spec).map(([key, field]) => {
    const value = field.kind === 'boolean' ? '' : ` <${field.kind}>`;
    return `  --${kebab(key)}${value}${defaultText(field)}\n      ${field.doc}\n`;
  });
  return `usage: outrider ${part} [--config FILE] [options]\n\n${options.join('')}\nThe same keys in a file and in the environment: docs/config.md.\n`;
}

function defaultText(field: Field<unknown>): string {
  if (!('default' in field)) return ' (required)';
  if (field.default === undefined) return '';
  const shown: unknown = field.show ? field.show(field.default) : field.default;
  return ` (default ${typeof shown === 'string' ? shown : JSON.stringify(shown)})`;
}

/** Whether the configuration of a part sets this key, rather than leaving it to its default. */
export function isGiven<S extends Spec>(
  part: string,
  spec: S,
  key: keyof S & string,
  sources: Omit<ConfigSources, 'argv'>,
): boolean {
  const keys = Object.keys(spec);
  return [
    ...fileKeys(part, keys, { ...sources, argv: [] }, PARTS, []),
    ...envKeys(part, keys, sources.env, []),
  ].some(([given]) => given === key);
}

/**
 * Whoever takes a section out of a file that is in use has more likely truncated it than meant every default, which `part: {}` says.
 * @throws {OutriderError} CONFIG_INVALID where `before` had a section of the part, and `now` has none
 */
export function assertSectionKept(
  part: string,
  before: ConfigSources['file'],
  now: ConfigSources['file'],
): void {
  if (now && has(part, before) && !has(part, now))
    throw new OutriderError(
      'CONFIG_INVALID',
      `${now.name}: ${now.text.trim() === '' ? 'is empty' : `the section ${part} is gone`}, and was not before; for all of its defaults, write ${part}: {}`,
    );
}

function has(part: string, file: ConfigSources['file']): boolean {
  const section: unknown = file && parseDocument(file.text).get(part);
  return section !== undefined && section !== null;
}

/** The names that one part's section of a file asks of the environment; all names of a file that cannot be read. */
export function namedInSection(source: string, part: string): ReadonlySet<string> {
  const document = parseDocument(source);
  const node: unknown = document.errors.length > 0 ? undefined : document.get(part, true);
  const range =
    typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range)
      ? node.range
      : undefined;
  const section = range
    ? source.slice(Number(range[0]), Number(range[1]))
    : document.errors.length > 0
      ? source
      : '';
  return new Set([...section.matchAll(/\$\{([A-Za-z_]\w*)/g)].map(([, name = '']) => name));
}

/**
 * Replaces `${VAR}` and `${VAR:-default}` outside comment lines. A missing variable is empty; an empty one counts as missing
 * where a default is given.
 */
export function substituteEnv(
  source: string,
  env: Readonly<Record<string, string | undefined>>,
): string {
  return source
    .split('\n')
    .map((line) =>
      line.trimStart().startsWith('#')
        ? line
        : line.replace(
            /\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g,
            (_, name: string, fallback: string | undefined) => {
              const value = env[name];
              return value === undefined || value === '' ? (fallback ?? '') : value;
            },
          ),
    )
    .join('\n');
}

function fileKeys(
  part: string,
  keys: readonly string[],
  { file, env }: ConfigSources,
  sections: readonly string[],
  problems: string[],
): [string, unknown][] {
  if (!file) return [];
  const document = parseDocument(substituteEnv(file.text, env), {
    uniqueKeys: true,
    prettyErrors: true,
  });
  for (const error of document.errors)
    problems.push(`${file.name}: ${error.message.split('\n')[0]}`);
  if (document.errors.length > 0) return [];
  let root: unknown;
  try {
    root = withoutAliases(document) ?? {};
  } catch {
    problems.push(`${file.name}: ${NO_ALIASES}`);
    return [];
  }
  if (!isRecord(root)) {
    problems.push(`${file.name}: must be a mapping with a section for each part`);
    return [];
  }
  for (const name of Object.keys(root))
    if (!sections.includes(name))
      problems.push(`${file.name}: unknown section "${name}"${suggest(name, sections)}`);
  const section = root[part] ?? {};
  if (!isRecord(section)) {
    problems.push(`${file.name}: ${part} must be a mapping`);
    return [];
  }
  const found: [string, unknown][] = [];
  const walk = (prefix: string, mapping: Record<string, unknown>): void => {
    for (const [name, value] of Object.entries(mapping)) {
      const key = prefix + name;
      if (keys.includes(key)) found.push([key, value]);
      else if (isRecord(value) && keys.some((known) => known.startsWith(`${key}.`)))
        walk(`${key}.`, value);
      else problems.push(`${file.name}: unknown key "${part}.${key}"${suggest(key, keys)}`);
    }
  };
  walk('', section);
  return found;
}

function envKeys(
  part: string,
  keys: readonly string[],
  env: ConfigSources['env'],
  problems: string[],
): [string, string, string][] {
  const prefix = `OUTRIDER_${part.toUpperCase()}_`;
  const byName = new Map(keys.map((key) => [prefix + screaming(key), key]));
  const found: [string, string, string][] = [];
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(prefix) || value === undefined || isServiceLink(name, prefix)) continue;
    const key = byName.get(name);
    if (key) found.push([key, value, `environment ${name}`]);
    else problems.push(`unknown environment variable ${name}${suggest(name, [...byName.keys()])}`);
  }
  return found;
}

/** What Kubernetes puts into every container for a Service called outrider-<part>: not ours. */
function isServiceLink(name: string, prefix: string): boolean {
  return /^(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)$/.test(
    name.slice(prefix.length),
  );
}

function argvKeys(
  keys: readonly string[],
  spec: Spec,
  argv: readonly string[],
  problems: string[],
): [string, string, string][] {
  const byOption = new Map(keys.map((key) => [`--${kebab(key)}`, key]));
  const found: [string, string, string][] = [];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    const [option, inline] = splitOnce(word, '=');
    const key = byOption.get(option);
    if (key === undefined) {
      problems.push(`unknown option ${option}${suggest(option, [...byOption.keys()])}`);
      if (argv[at + 1]?.startsWith('--') === false) at += 1;
      continue;
    }
    if (inline !== undefined) found.push([key, inline, option]);
    else if (spec[key]?.kind === 'boolean') found.push([key, 'true', option]);
    else if (argv[at + 1] === undefined) problems.push(`${option} needs a value`);
    else found.push([key, argv[++at] ?? '', option]);
  }
  return found;
}

// The kinds of field.

export function text(doc: string, fallback?: string): Field<string> {
  return withDefault(
    {
      doc,
      kind: 'text',
      parse: (raw) => nonEmpty(raw),
    },
    fallback,
  );
}

/** Text that may be absent. */
export function optionalText(doc: string): Field<string | undefined> {
  return {
    doc,
    kind: 'text',
    default: undefined,
    parse: (raw) => (raw === '' ? undefined : nonEmpty(raw)),
  };
}

export function choice<const T extends string>(
  doc: string,
  values: readonly T[],
  fallback?: T,
): Field<T> {
  const kind = values.join(' | ');
  const parse = (raw: unknown): T => {
    const value = values.find((known) => known === raw);
    if (value === undefined) throw new Error(`must be one of ${kind}, not ${JSON.stringify(raw)}`);
    return value;
  };
  return withDefault({ doc, kind, parse }, fallback);
}

export function bool(doc: string, fallback?: boolean): Field<boolean> {
  const parse = (raw: unknown): boolean => {
    if (raw === true || raw === 'true') return true;
    if (raw === false || raw === 'false') return false;
    throw new Error(`must be true or false, not ${JSON.stringify(raw)}`);
  };
  return withDefault({ doc, kind: 'boolean', parse }, fallback);
}

/** A whole number from `min` to `max`, both allowed. */
export function integer(doc: string, min: number, max: number, fallback?: number): Field<number> {
  const kind = `whole number ${min}..${max}`;
  const parse = (raw: unknown): number => {
    const value = typeof raw === 'string' && /^-?\d+$/.test(raw) ? Number(raw) : raw;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
      throw new Error(`must be a ${kind}, not ${JSON.stringify(raw)}`);
    return value;
  };
  return withDefault({ doc, kind, parse }, fallback);
}

/** A duration as `250ms`, `30s`, `5m` or `2h`, `leastMs` or more; the value is in milliseconds. */
export function duration(doc: string, fallback?: number, leastMs = 0): Field<number> {
  const least = formatDuration(leastMs);
  const kind = `duration (ms, s, m, h)${leastMs > 0 ? ` from ${least}` : ''}`;
  const parse = (raw: unknown): number => {
    const ms = parseDurationMs(raw);
    if (ms < leastMs) throw new Error(`must be at least ${least}, not ${JSON.stringify(raw)}`);
    return ms;
  };
  return { ...withDefault({ doc, kind, parse }, fallback), show: (ms) => formatDuration(ms) };
}

/** A size as `64KiB`, `10MiB`, `2GiB` or a number of bytes, `least` or more; the value is in bytes. */
export function bytes(doc: string, fallback?: number, least = 0): Field<number> {
  const kind = `size (B, KiB, MiB, GiB)${least > 0 ? ` from ${least}` : ''}`;
  const parse = (raw: unknown): number => {
    const size = parseBytes(raw);
    if (size < least)
      throw new Error(`must be at least ${least} bytes, not ${JSON.stringify(raw)}`);
    return size;
  };
  return withDefault({ doc, kind, parse }, fallback);
}

export function address(doc: string, fallback?: string): Field<Address> {
  const parse = (raw: unknown): Address =>
    parseAddress(typeof raw === 'string' ? raw : JSON.stringify(raw));
  const field = { doc, kind: 'address (host:port or unix:/path)', parse, show: formatAddress };
  return fallback === undefined ? field : { ...field, default: parseAddress(fallback) };
}

export function optionalAddress(doc: string): Field<Address | undefined> {
  const parse = (raw: unknown): Address | undefined =>
    raw === '' ? undefined : parseAddress(typeof raw === 'string' ? raw : JSON.stringify(raw));
  return { doc, kind: 'address (host:port or unix:/path)', default: undefined, parse };
}

/** A list of what `item` reads; on the command line and in the environment separated by commas, or a YAML flow list. */
export function list<T>(
  doc: string,
  item: Pick<Field<T>, 'kind' | 'parse' | 'show' | 'keys'>,
  fallback?: readonly T[],
): Field<readonly T[]> {
  const parse = (raw: unknown): readonly T[] => {
    const items: unknown =
      typeof raw === 'string'
        ? raw.trimStart().startsWith('[')
          ? parseYaml(raw)
          : raw === ''
            ? []
            : raw.split(',').map((part) => part.trim())
        : raw;
    if (!Array.isArray(items)) throw new Error(`must be a list, not ${JSON.stringify(raw)}`);
    const problems: string[] = [];
    const values = items.flatMap((value, index) =>
      parsed(item, value, `item ${index + 1}: `, problems),
    );
    if (problems.length > 0) throw new Error(problems.join('\n'));
    return values;
  };
  const field = withDefault({ doc, kind: `list of ${item.kind}`, parse }, fallback);
  const { show, keys } = item;
  return {
    ...field,
    ...(show ? { show: (values: readonly T[]) => values.map(show).join(',') } : {}),
    ...(keys ? { keys } : {}),
  };
}

/** A mapping with its own keys, for items of a `list`; unknown keys are refused. */
export function record<S extends Spec>(doc: string, spec: S): Field<ConfigOf<S>> {
  const parse = (raw: unknown): ConfigOf<S> => {
    const value: unknown = typeof raw === 'string' ? parseYaml(raw) : raw;
    if (!isRecord(value)) throw new Error('must be a mapping');
    const out: Record<string, unknown> = {};
    const problems: string[] = [];
    for (const key of Object.keys(value))
      if (!Object.hasOwn(spec, key))
        problems.push(`has the unknown key "${key}"${suggest(key, Object.keys(spec))}`);
    for (const [key, field] of Object.entries(spec)) {
      if (Object.hasOwn(value, key))
        for (const read of parsed(field, value[key], `${key} `, problems)) out[key] = read;
      else if ('default' in field) out[key] = field.default;
      else problems.push(`needs the key "${key}" (${field.kind})`);
    }
    if (problems.length > 0) throw new Error(problems.join('\n'));
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every key of the spec was parsed by its own field above
    return out as ConfigOf<S>;
  };
  return { doc, kind: `mapping {${Object.keys(spec).join(', ')}}`, parse, keys: spec };
}

/** What a field reads, and nothing where it cannot: then each line of what is wrong goes to `problems`, behind what names the value. */
function parsed<T>(
  field: Pick<Field<T>, 'parse'>,
  raw: unknown,
  name: string,
  problems: string[],
): readonly [T] | readonly [] {
  try {
    return [field.parse(raw)];
  } catch (error) {
    const message = error instanceof Error ? error.message : 'is not usable';
    for (const line of message.split('\n')) problems.push(name + line);
    return [];
  }
}

/** How long a timer is to wait. @throws {Error} what is expected, also of one above 596 hours */
export function parseDurationMs(raw: unknown): number {
  const ms = parseSpanMs(raw);
  if (ms > TIMER_MAX_MS) throw new Error(`must be at most 596h, not ${JSON.stringify(raw)}`);
  return ms;
}

/** The same of a time that nothing waits for, however long. @throws {Error} what is expected */
export function parseSpanMs(raw: unknown): number {
  const match = typeof raw === 'string' ? /^(\d+)(ms|s|m|h)$/.exec(raw) : null;
  if (!match)
    throw new Error(`must be a duration such as 250ms, 30s, 5m or 2h, not ${JSON.stringify(raw)}`);
  const unit = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[match[2] ?? ''] ?? 1;
  return Number(match[1]) * unit;
}

export function parseBytes(raw: unknown): number {
  if (typeof raw === 'number' && Number.isSafeInteger(raw) && raw >= 0) return raw;
  const match = typeof raw === 'string' ? /^(\d+)(B|KiB|MiB|GiB|TiB)?$/.exec(raw) : null;
  if (!match) throw new Error(`must be a size such as 64KiB or 10MiB, not ${JSON.stringify(raw)}`);
  const unit =
    { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }[match[2] ?? 'B'] ?? 1;
  const size = Number(match[1]) * unit;
  if (!Number.isSafeInteger(size)) throw new Error(`is too large: ${JSON.stringify(raw)}`);
  return size;
}

/** The shortest exact spelling of a duration in milliseconds. */
export function formatDuration(ms: number): string {
  if (ms > 0 && ms % 3_600_000 === 0) return `${ms / 3_600_000}h`;
  if (ms > 0 && ms % 60_000 === 0) return `${ms / 60_000}m`;
  if (ms > 0 && ms % 1_000 === 0) return `${ms / 1_000}s`;
  return `${ms}ms`;
}

function withDefault<T>(field: Field<T>, fallback: T | undefined): Field<T> {
  return fallback === undefined ? field : { ...field, default: fallback };
}

function nonEmpty(raw: unknown): string {
  if (typeof raw !== 'string' || raw === '')
    throw new Error(`must be text, not ${JSON.stringify(raw)}`);
  return raw;
}

function parseYaml(source: string): unknown {
  const document = parseDocument(source);
  if (document.errors.length > 0) throw new Error('is not readable');
  return withoutAliases(document);
}

const NO_ALIASES = 'must not use YAML aliases';

/** Aliases could make a short text huge. @throws {Error} NO_ALIASES */
function withoutAliases(document: ReturnType<typeof parseDocument>): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 });
  } catch {
    throw new Error(NO_ALIASES);
  }
}

function suggest(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near ? ` (did you mean "${near}"?)` : '';
}

function splitOnce(word: string, by: string): [string, string | undefined] {
  const at = word.indexOf(by);
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

function kebab(key: string): string {
  return key.replaceAll('.', '-').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function screaming(key: string): string {
  return kebab(key).replaceAll('-', '_').toUpperCase();
}
