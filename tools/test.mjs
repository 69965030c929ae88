// `npm test`: every test that needs no extra service: first those beside their files, then those of more than one part. With
// arguments, only the files given; with `--parts`, those that need real parts (`.ci/run` installs them). `npm run check` leaves out those
// that start processes of ours (main, service, mcp).
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const UNIT = 'core,policies,policystore,gateway,server,runner,sidecar,proxy,sdk,redteam,cli,tools';
/** What takes longer has hung; the longest, on a busy machine, takes half of that. */
const TIMEOUT_MS = 1_200_000;
/** The same of a phase: a file whose tests have ended, and which does not end itself, is in no limit of Node's. It is named when this interrupts. */
const PHASE_TIMEOUT_MS = 2_400_000;
const compiled = mkdtempSync(join(tmpdir(), 'outrider-tests-'));
const ENV = {
  // Whoever runs this has made dist/ (tools/setup.mjs), and processes of `outrider` start from there in half the time.
  OUTRIDER_TESTS_BUILT: '1',
  // Each of some 400 files is a process that imports much of the sources: compiled once, that is half of its start.
  NODE_COMPILE_CACHE: compiled,
};
/** What measures, starves or ends much of the machine has it to itself. */
const ALONE = [
  'abandoned-sessions',
  'backends',
  'battery',
  'budgets',
  'chaos',
  'chaos-gateway',
  'clients',
  'hard-timeouts',
  'human-eval',
  'interception',
  'lifetimes',
  'limits',
  'newcomer',
  'ordinary-user',
  'programs',
  'redteam',
];
/** What it needs is ready last: `.ci/run` names it then. */
const LAST = ['datasources-loki'];
const files = process.argv.slice(2);
const phases =
  files[0] === '--parts'
    ? [
        { concurrency: 2, patterns: [`test/parts/!(${[...ALONE, ...LAST].join('|')}).test.ts`] },
        { concurrency: 1, patterns: [`test/parts/{${ALONE.join(',')}}.test.ts`] },
      ]
    : files.length > 0
      ? [{ concurrency: 1, patterns: files }]
      : [
          { concurrency: 4, patterns: [`{${UNIT}}/**/*.test.ts`] }, // they mostly wait
          { concurrency: 2, patterns: ['test/{integration,e2e}/**/*.test.ts'] }, // each runs a mesh
        ];

let failed = false;
for (const { concurrency, patterns } of phases) {
  const { status } = spawnSync(
    process.execPath,
    [
      '--conditions=outrider-source',
      '--test',
      `--test-timeout=${TIMEOUT_MS}`,
      `--test-concurrency=${concurrency}`,
      ...patterns,
    ],
    {
      stdio: 'inherit',
      env: { ...process.env, ...ENV },
      timeout: PHASE_TIMEOUT_MS,
      killSignal: 'SIGINT',
    },
  );
  failed ||= status !== 0;
}
rmSync(compiled, { recursive: true, force: true, maxRetries: 3 });
process.exit(failed ? 1 : 0);
