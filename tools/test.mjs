// `npm test`: every test that needs no extra service. With arguments, only the files given.
import { spawnSync } from 'node:child_process';

const FOLDERS =
  'core,policies,policystore,gateway,server,runner,sidecar,proxy,sdk,cli,tools,test/integration,test/e2e';
const files = process.argv.slice(2);
const { status } = spawnSync(
  process.execPath,
  [
    '--conditions=outrider-source',
    '--test',
    '--test-concurrency=2',
    ...(files.length > 0 ? files : [`{${FOLDERS}}/**/*.test.ts`]),
  ],
  { stdio: 'inherit' },
);
process.exit(status ?? 1);
