import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '#core/package-root';

const DEPENDENCIES = [
  'JWKS',
  'Redis',
  'DNS',
  'secret store',
  'policy files',
  'audit disk',
  'clock',
];
const FAULTS = ['slow', 'down', 'garbage', 'half-open'];
const FILES = [
  'proxy/faults.test.ts',
  'proxy/audit.test.ts',
  'proxy/server.test.ts',
  'test/parts/faults.test.ts',
  'test/parts/limits.test.ts',
];

const read = (path: string): string => readFileSync(join(packageRoot, path), 'utf8');
const rows = [
  ...read('docs/faults.md').matchAll(/^\| ([\w ]+) \| ([\w-]+) \| (.+) \| `(.+)` \|$/gm),
];

test('docs/faults.md declares what happens for each dependency and each fault, once', () => {
  assert.deepEqual(
    rows.map(([, dependency, fault]) => `${dependency} ${fault}`),
    DEPENDENCIES.flatMap((dependency) => FAULTS.map((fault) => `${dependency} ${fault}`)),
  );
  for (const [, dependency, fault, outcome = ''] of rows)
    assert.doesNotMatch(outcome, /\bopen\b|not yet|undeclared/, `${dependency} ${fault}`);
});

test('and each of its cells names a test that is there', () => {
  // Names that are made of a table of faults have it in the place of a variable.
  const names = FILES.flatMap((path) =>
    [...read(path).matchAll(/test\(\s*(['"`])(.+?)\1/g)].map(([, , name = '']) => name),
  ).flatMap((name) => FAULTS.map((fault) => name.replace('${fault}', fault)));
  for (const [, dependency, fault, , wanted = ''] of rows)
    assert.ok(
      names.some((name) => name.startsWith(wanted) || name.toLowerCase().includes(wanted)),
      `${dependency} ${fault}: ${wanted}`,
    );
});
