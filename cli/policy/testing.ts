import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { TestContext } from 'node:test';
import { packageRoot } from '#core/package-root';
import { policy } from '../policy.ts';

/** For tests alone. */

export const QUICKSTART = join(packageRoot, 'examples/quickstart/policies');

/** Runs `outrider policy` in this process. */
export async function run(
  ...argv: string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const [out, err] = [new PassThrough({ encoding: 'utf8' }), new PassThrough({ encoding: 'utf8' })];
  const [texts, errors]: [string[], string[]] = [[], []];
  out.on('data', (text: string) => texts.push(text));
  err.on('data', (text: string) => errors.push(text));
  const code = await policy(argv, out, err);
  return { code, out: texts.join(''), err: errors.join('') };
}

/** As `run` with `--json`, with the object that it printed. */
export async function runJson(
  ...argv: string[]
): Promise<{ readonly code: number; readonly json: Record<string, unknown> }> {
  const { code, out } = await run(...argv, '--json');
  const json: unknown = JSON.parse(out);
  return { code, json: Object(json) };
}

/** A directory with these files, gone with the test. */
export function directoryOf(t: TestContext, files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'outrider-cli-policy-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  writeFiles(directory, files);
  return directory;
}

export function writeFiles(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
}

/** A small policy that loads, with `allow` and `deny` rules, `cases`, and further documents, all as YAML. */
export function policyText({
  allow,
  deny = [],
  cases = [],
  test = [],
  more = [],
}: {
  readonly allow: readonly string[];
  readonly deny?: readonly string[];
  readonly cases?: readonly string[];
  /** Further fields of the PolicyTest's spec. */
  readonly test?: readonly string[];
  readonly more?: readonly string[];
}): string {
  const list = (items: readonly string[]) => items.map((item) => `    - ${item}`);
  return [
    'apiVersion: outrider/v1',
    'kind: Role',
    'metadata: {name: analyst}',
    'spec: {members: [{issuer: "outrider:local"}], sandbox: {}}',
    '---',
    'apiVersion: outrider/v1',
    'kind: EgressPolicy',
    'metadata: {name: analyst}',
    'spec:',
    '  subjects: [{role: analyst}]',
    '  mode: enforce',
    '  allow:',
    ...list(allow),
    ...(deny.length > 0 ? ['  deny:', ...list(deny)] : []),
    ...(cases.length > 0
      ? [
          '---',
          'apiVersion: outrider/v1',
          'kind: PolicyTest',
          'metadata: {name: analyst}',
          'spec:',
          '  as: {role: analyst}',
          ...test.map((line) => `  ${line}`),
          '  cases:',
          ...list(cases),
        ]
      : []),
    ...more.flatMap((document) => ['---', `apiVersion: outrider/v1\n${document}`]),
    '',
  ].join('\n');
}
