import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import type { Client } from './registries.ts';

/** What a starter can be told. */
export interface Parameter {
  readonly name: string;
  /** `word`: one text in place of another. `places`: URLs; the documents are repeated for each. */
  readonly kind: 'word' | 'places';
  /** What stands in the documents in its place. */
  readonly example: string;
  readonly about: string;
  /** What a word must look like. */
  readonly pattern?: string;
  /** What is meant where nothing is said; without it the example stays, and is to be changed. */
  readonly default?: string;
  /** Whose configuration on this machine names the places. */
  readonly from?: Client;
}

/** A starter: documents that are sound and tested as they are, with examples in place of what differs. */
export interface LibraryEntry {
  readonly name: string;
  readonly title: string;
  /** Markdown, one paragraph. */
  readonly about: string;
  readonly parameters: readonly Parameter[];
  /** `https` and `http` where they differ; otherwise only `''`. */
  readonly variants: ReadonlyMap<string, readonly LibraryFile[]>;
}

export interface LibraryFile {
  /** `policy.yaml`, `role.yaml` or `test.yaml`. */
  readonly name: string;
  readonly text: string;
}

export const LIBRARY = join(packageRoot, 'policies/library');
/** What each starter begins with. */
export const ROLE_ENTRY = 'role';
/** The names in the documents that every starter replaces. */
export const EXAMPLE = { role: 'example-role', owner: 'example-team' } as const;

/** Every entry of the library, by name: the role first. */
export function readLibrary(): ReadonlyMap<string, LibraryEntry> {
  const names = readdirSync(LIBRARY, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .toSorted((a, b) => Number(b === ROLE_ENTRY) - Number(a === ROLE_ENTRY) || (a < b ? -1 : 1));
  return new Map(names.map((name) => [name, readEntry(name)]));
}

function readEntry(name: string): LibraryEntry {
  const directory = join(LIBRARY, name);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ours, and library.test.ts checks every one of them
  const about = JSON.parse(readFileSync(join(directory, 'about.json'), 'utf8')) as Omit<
    LibraryEntry,
    'name' | 'variants'
  >;
  const inside = readdirSync(directory, { withFileTypes: true }).filter((one) => one.isDirectory());
  const variants = inside.length === 0 ? [''] : inside.map((one) => one.name).toSorted();
  return {
    name,
    ...about,
    variants: new Map(variants.map((variant) => [variant, readFiles(join(directory, variant))])),
  };
}

function readFiles(directory: string): LibraryFile[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.yaml'))
    .toSorted()
    .map((name) => ({ name, text: readFileSync(join(directory, name), 'utf8') }));
}
