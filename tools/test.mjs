// `npm test`: every test that needs no extra service: first those beside their files, then those of more than one part. With
// arguments, only the files given. `npm run check` leaves out those that start processes of ours (main, service, mcp).
import { spawnSync } from 'node:child_process';

const UNIT = 'core,policies,policystore,gateway,server,runner,sidecar,proxy,sdk,redteam,cli,tools';
/** What takes longer has hung; the longest, on a busy machine, takes half of that. */
const TIMEOUT_MS = 1_200_000;
const files = process.argv.slice(2);
const phases =
  files.length > 0
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
    { stdio: 'inherit' },
  );
  failed ||= status !== 0;
}
process.exit(failed ? 1 : 0);
