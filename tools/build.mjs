// Makes dist/: every part's main and the SDK with all that they import, ours and of packages, in few files. What a process loads at its
// start is then some 30 files instead of 340, which halves that start; what it imports later is in files of its own.
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const outdir = join(root, 'dist');

const PARTS = ['gateway', 'server', 'runner', 'runner/launcher', 'sidecar', 'proxy'];

rmSync(outdir, { recursive: true, force: true }); // the names of shared files change with what is in them
await build({
  absWorkingDir: root,
  entryPoints: ['cli/main.ts', 'sdk/index.ts', ...PARTS.map((part) => `${part}/main.ts`)],
  outdir,
  outbase: '.',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true, // a class is in one file, however many import it: `instanceof` holds
  format: 'esm',
  platform: 'node',
  target: 'node20', // the SDK's; see `engines`
  conditions: ['outrider-source'],
  inject: [join(root, 'tools/globals.mjs')],
  // dockerode brings compiled code that is there or not; yaml is loaded where there is YAML to read, by `core/config.ts`, too, which would be a second copy.
  external: ['dockerode', 'yaml'],
  // What the CommonJS packages in it call for Node's own modules.
  banner: {
    js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
  },
  legalComments: 'eof',
  logLevel: 'warning',
});
