// What is generated must be what its source says: proto/gen from the protos, policystore/gen from the schema, docs/errors.md and docs/config.md from the code.
// `--write` brings it up to date.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { descriptors } from './descriptors.ts';
import { pages } from './pages.ts';
import { validators } from './validators.ts';

const write = process.argv.includes('--write');
const stale = [];

const buf = (...args) => {
  const { status } = spawnSync('buf', args, { stdio: 'inherit' });
  if (status !== 0) process.exit(1);
};
buf('lint');
if (write) buf('generate');
else {
  const out = mkdtempSync(join(tmpdir(), 'outrider-proto-'));
  buf('generate', '--output', out);
  const { status } = spawnSync(
    'diff',
    ['-r', '-q', '-x', 'descriptors.ts', join(out, 'proto/gen'), 'proto/gen'],
    { stdio: 'inherit' },
  );
  rmSync(out, { recursive: true });
  if (status !== 0) stale.push('proto/gen');
}

const made = {
  ...pages(),
  'proto/gen/descriptors.ts': descriptors(),
  'policystore/gen/validators.ts': validators(),
};
for (const [path, text] of Object.entries(made)) {
  if (write) writeFileSync(path, text);
  else if (readOr(path) !== text) stale.push(path);
}
if (stale.length > 0) {
  console.error(`not what the source says: ${stale.join(', ')}; run \`npm run generate\``);
  process.exit(1);
}

function readOr(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
