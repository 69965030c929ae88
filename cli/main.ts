#!/usr/bin/env node
import * as modules from 'node:module'; // what an older Node does not have must not be named here
import { Socket } from 'node:net';
import { join } from 'node:path';
import { HEAP_FLAGS, holdCompilers, holdHeap, inlineMore } from '#core/heap';
import { packageRoot, packageVersion } from '#core/package-root';
import { nodeProblem } from './node-version.ts';

/** The `outrider` command: chooses what to run and loads only that. */

const USAGE = `usage: outrider COMMAND

  up                       start the mesh on this machine: proxy, runner, server, gateway
  exec FILE|-              run a program in a sandbox; its exit code becomes this command's
  token                    print the local token
  secret COMMAND           set, list, rotate, remove secrets of the encrypted store
  policy COMMAND           check, test, compare, explain, suggest, bundle policy documents
  audit COMMAND FILE|DIR   verify audit chains; tail and search their records
  config check|diff        check a configuration file; say how two differ
  redteam                  attack the sandboxes, and say what came of it
  mcp                      speak MCP on stdin and stdout to the running mesh
  gateway|server|runner|sidecar|proxy [--config FILE]
                           run one part alone
  launcher                 make sandboxes for the runner that started it
  keys DIRECTORY           make the keys of one mesh

Each command explains itself with --help; --version says which Outrider this is. Configuration: docs/config.md.
`;

type Command = (argv: readonly string[]) => Promise<number>;

const env = process.env;
/** argv of this command, to start other parts with. */
const self = [
  process.execPath,
  ...new Set([...HEAP_FLAGS, ...process.execArgv]),
  process.argv[1] ?? '',
];

const COMMANDS: Readonly<Record<string, Command>> = {
  up: (argv) => import('./up.ts').then(({ up }) => up(argv, env, self, process.stdout)),
  exec: (argv) => import('./exec.ts').then(({ exec }) => exec(argv, env)),
  token: (argv) =>
    import('./token.ts').then(({ token }) => token(argv, env, process.stdout, process.stderr)),
  keys: (argv) =>
    import('./keys.ts').then(({ keys }) => keys(argv, process.stdout, process.stderr)),
  secret: (argv) => import('./secret.ts').then(({ secret }) => secret(argv, env, process)),
  policy: (argv) =>
    import('./policy.ts').then(({ policy }) => policy(argv, process.stdout, process.stderr)),
  audit: (argv) =>
    import('./audit.ts').then(({ audit }) => audit(argv, process.stdout, process.stderr)),
  config: (argv) =>
    import('./config.ts').then(({ config }) => config(argv, env, process.stdout, process.stderr)),
  redteam: (argv) => import('./redteam.ts').then(({ redteam }) => redteam(argv, self)),
  mcp: (argv) => import('./mcp.ts').then(({ mcp }) => mcp(argv, env, process)),
  gateway: (argv) => part(() => import('../gateway/main.ts').then((door) => door.main(argv, env))),
  server: (argv) => part(() => import('../server/main.ts').then((door) => door.main(argv, env))),
  runner: (argv) =>
    part(() => import('../runner/main.ts').then((door) => door.main(argv, env, self))),
  // The runner starts it and holds its stdin.
  launcher: (argv) => import('../runner/launcher/main.ts').then((door) => door.main(argv, env)),
  sidecar: (argv) => part(() => import('../sidecar/main.ts').then((door) => door.main(argv, env))),
  proxy: (argv) => part(() => import('../proxy/main.ts').then((door) => door.main(argv, env))),
};

/** They stay, so what their start leaves behind would stay, too. */
const PARTS: ReadonlySet<string> = new Set(['gateway', 'server', 'runner', 'sidecar', 'proxy']);

/** These go on without a reader: what they say there is said once. `mcp` ends its session first. */
const OUTLIVE_READERS: ReadonlySet<string> = new Set([...PARTS, 'up', 'launcher', 'mcp']);

/** Whoever reads no more (`| head`) ends a command as SIGPIPE would, without a word; what cannot be written for another reason is told. */
function endWithReader([name = '']: readonly string[]): void {
  process.stderr.on('error', () => {}); // there is nobody left to tell
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (OUTLIVE_READERS.has(name)) return;
    if (error.code === 'EPIPE') process.exit(141);
    process.stderr.write(`outrider: standard output cannot be written (${error.code})\n`);
    process.exit(1);
  });
}

/** A part that `outrider up` started ends with it, however it ends: its stdin is a pipe that the supervisor holds. */
function part(run: () => Promise<number>): Promise<number> {
  if (env['OUTRIDER_SUPERVISED'] === '1') {
    process.stdin.on('end', () => process.kill(process.pid, 'SIGTERM'));
    process.stdin.resume();
    if (process.stdin instanceof Socket) process.stdin.unref(); // it is to end this process, not to keep it
  }
  return run();
}

async function main([name = '', ...argv]: readonly string[]): Promise<number> {
  if (name === 'help' && argv.length > 0) return main([...argv, '--help']);
  if (name === '' || name === 'help' || name === '--help' || name === '-h') {
    (name === '' ? process.stderr : process.stdout).write(USAGE);
    return name === '' ? 2 : 0;
  }
  if (name === '--version' || name === '-v' || name === 'version') {
    process.stdout.write(`outrider ${packageVersion()} (Node ${process.version})\n`);
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) {
    const { nearest } = await import('../core/nearest.ts');
    const near = nearest(name, Object.keys(COMMANDS));
    process.stderr.write(
      `outrider: there is no command "${name}"${near ? `; did you mean "${near}"?` : ''}\n${USAGE}`,
    );
    return 2;
  }
  return command(argv[0] === '-h' ? ['--help'] : argv);
}

/** What has to be done before anything else is loaded. */
function prepare([name = '']: readonly string[]): void {
  if (PARTS.has(name)) {
    holdHeap(); // `runPart` releases it
    inlineMore();
  }
  if (name === 'sidecar') holdCompilers(); // its first exec releases them
  // After that: what is cached is only good for the flags of V8 that it was made with, and each set of them has its own place. Not the
  // default under /tmp: what is cached is code, and another user could have put it there first.
  modules.enableCompileCache(join(packageRoot, 'node_modules/.cache/outrider'));
}

const problem = nodeProblem(process.version);
if (problem !== undefined) {
  process.stderr.write(`outrider: ${problem}\n`);
  process.exitCode = 1;
} else {
  const argv = process.argv.slice(2);
  prepare(argv);
  endWithReader(argv);
  process.exitCode = await main(argv);
}
