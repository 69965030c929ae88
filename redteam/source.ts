import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '#core/package-root';
import type { Layout, Program } from './target.ts';

const PRELUDE = readFileSync(join(packageRoot, 'redteam/prelude.py'), 'utf8');

/** The whole text of a program, as it is run on a target laid out like this. */
export function sourceOf(
  { code, params }: Program,
  layout: Layout,
  also: Readonly<Record<string, unknown>> = {},
): string {
  const known = JSON.stringify({ ...layout, ...also, ...params });
  return `${PRELUDE}\nP = json.loads(${JSON.stringify(known)})\n${code}`;
}
