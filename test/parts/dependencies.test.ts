import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { credentials } from '@grpc/grpc-js';
import {
  CreateSandboxRequest,
  type CreateSandboxResponse,
  SandboxServiceClient,
  SandboxSpec,
  SandboxState,
} from '#proto';
import type { ProgramOptions } from '#sdk';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';
import { tarball, wheel } from '../support/packages.ts';
import { failureOf } from '../support/runner-client.ts';

// Two phases: packages come from a registry that a policy of phase install allows, and the program that uses them cannot reach it.
// pip and npm are the real ones; the registry and its packages are made here. Needs root, iproute2, nsenter, python3-pip and npm.

const NAMESPACE = `outrider-d-${process.pid}`;
const ADDRESS = '203.0.113.10';
const HOST = 'packages.example.com';
const within = ['nsenter', `--net=/run/netns/${NAMESPACE}`];

let mesh: RunningMesh;
const directory = mkdtempSync(join(tmpdir(), 'o-dep-'));
/** What takes back what `before` did, last first, however far it came. */
const undo: (() => unknown)[] = [() => rmSync(directory, { recursive: true, force: true })];
/** The paths that the registry was asked for since the last test began. */
let asked: string[] = [];
let ready = false;

before(async () => {
  run('ip', 'netns', 'add', NAMESPACE);
  undo.push(() => run('ip', 'netns', 'delete', NAMESPACE));
  run('ip', '-n', NAMESPACE, 'link', 'set', 'lo', 'up');
  run('ip', '-n', NAMESPACE, 'address', 'add', `${ADDRESS}/32`, 'dev', 'lo');
  const answers = join(directory, 'answers.json');
  writeFileSync(answers, JSON.stringify({ ...pipIndex(), ...npmRegistry() }));
  const [program = '', ...words] = within;
  const script = join(import.meta.dirname, 'registry-host.ts');
  const host = spawn(program, [...words, process.execPath, script, ADDRESS, answers], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  undo.push(() => {
    const ended = once(host, 'exit');
    host.kill('SIGKILL');
    return ended;
  });
  let rest = '';
  host.stdout?.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const said: { asked?: string; ready?: boolean } = JSON.parse(line);
      ready ||= said.ready === true;
      if (said.asked !== undefined) asked.push(said.asked);
    }
  });
  await until('the registry listens', () => ready);
  mesh = await startMesh({
    within,
    env: {
      OUTRIDER_PROXY_DNS_SERVERS: '127.0.0.1:5353',
      OUTRIDER_RUNNER_PIP_INDEX: `http://${HOST}/simple/`,
      OUTRIDER_RUNNER_NPM_REGISTRY: `http://${HOST}/npm/`,
    },
    policy: (text, file) => {
      if (file === 'boundary.yaml')
        return text
          .replace('[example.com]', `[example.com, ${HOST}]`)
          .replace('requireTests: true', 'requireTests: false');
      if (file === 'role-analyst.yaml') return `${text}${ROLES}`;
      if (file === 'egress-analyst.yaml') return `${text}${INSTALLING}`;
      return text;
    },
  });
  undo.push(() => mesh.stop());
});
after(async () => {
  for (const step of undo.toReversed()) await step();
});
beforeEach(() => {
  asked = [];
});

const ROLES = `---
apiVersion: outrider/v1
kind: Role
metadata: {name: builder}
spec:
  members: [{issuer: outrider:local}]
  sandbox:
    profiles: [python, node]
    timeout: 60s
    dependencies:
      managers: [pip, npm]
      allow: [greet, brings-bad, source-only, names-source, hangs, left-hand, pulls-bad, pulls-git]
      block: [Bad_Word, bad-two]
---
apiVersion: outrider/v1
kind: Role
metadata: {name: hasty}
spec:
  members: [{issuer: outrider:local}]
  sandbox: {profiles: [python], timeout: 6s, dependencies: {managers: [pip]}}
`;
const INSTALLING = `---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: packages}
spec:
  subjects: [{role: builder}, {role: hasty}]
  phase: install
  mode: enforce
  allow:
    - {id: registry, scheme: http, hosts: [${HOST}], methods: [GET], paths: any}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: builder}
spec:
  subjects: [{role: builder}]
  mode: enforce
  allow:
    - {id: site, hosts: [example.com], protocols: [tunnel]}
`;

type Dependency = NonNullable<ProgramOptions['dependencies']>[number];
const pip = (requirement: string): Dependency => ({ manager: 'pip', requirement });
const npm = (requirement: string): Dependency => ({ manager: 'npm', requirement });

/** Asks the registry from a program, as what was installed would. */
const ASK = `
import urllib.error, urllib.request
try: print(urllib.request.urlopen("http://${HOST}/simple/greet/?by=program", timeout=10).status)
except urllib.error.HTTPError as error: print(error.code, error.headers["x-outrider-reason"])
`;

test('C11: a package of pip, and what it brings along, is there for the program; the registry is not', async () => {
  const code = `import greet, subprocess, sys
print(greet.hello(), flush=True)
print(subprocess.run([sys.executable, "-c", "import greet; print(greet.hello())"], capture_output=True, text=True).stdout)
${ASK}`;
  const { stdout, stderr, killedBy } = await mesh.sdk.run(code, {
    role: 'builder',
    dependencies: [pip('Greet >= 1.0, < 2')],
  });
  assert.equal(stderr, '');
  assert.equal(killedBy, 'exit');
  assert.equal(stdout, 'hello noun\nhello noun\n\n403 host_not_allowed\n');
  assert.ok(asked.includes('/simple/greet/'), 'phase 1 reached the registry');
  assert.ok(asked.includes('/files/nouns-2.0-py3-none-any.whl'), asked.join());
  assert.deepEqual(
    asked.filter((path) => path.includes('program')),
    [],
  );
  await until('the audit has the install', () =>
    mesh
      .audit('runner')
      .some(
        ({ event, detail }) =>
          event === 'exec' && detail === 'install: 2 packages with pip: greet 1.0, nouns 2.0',
      ),
  );
  await until('the sidecar recorded what was fetched', () =>
    mesh
      .audit('sidecar')
      .some(({ verdict, policy, rule }) =>
        [verdict, policy, rule].every((word, at) => word === ['allow', 'packages', 'registry'][at]),
      ),
  );
});

test('C11: a package of npm is found from the workspace, and its scripts have not run', async () => {
  const code = `import { existsSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { hand } from 'left-hand';
import { side } from 'side-hand';
const marker = '/workspace/postinstall-ran';
const before = existsSync(marker);
execFileSync(process.execPath, ['node_modules/left-hand/post.js']);
console.log(hand(), side(), before, existsSync(marker));
`;
  const { stdout, stderr } = await mesh.sdk.run(code, {
    role: 'builder',
    profile: 'node',
    language: 'javascript',
    dependencies: [npm('left-hand@^1.0.0')],
  });
  assert.equal(stderr, '');
  assert.equal(stdout, 'left side false true\n');
  await until('the audit has the install', () =>
    mesh
      .audit('runner')
      .some(
        ({ detail }) => detail === 'install: 2 packages with npm: left-hand 1.0.2, side-hand 3.1.4',
      ),
  );
});

/** What, how it is asked for, the code, and something that the registry is asked for, where it is asked at all. */
const refused: readonly (readonly [string, ProgramOptions, string, RegExp | undefined])[] = [
  [
    'a package that is not one of the role’s',
    { role: 'builder', dependencies: [pip('nouns')] },
    'DEPENDENCY_REFUSED',
    undefined,
  ],
  [
    'a blocked package, in another spelling',
    { role: 'builder', dependencies: [pip('BAD.word')] },
    'DEPENDENCY_REFUSED',
    undefined,
  ],
  [
    'a blocked package that another of pip brings along',
    { role: 'builder', dependencies: [pip('brings-bad')] },
    'DEPENDENCY_REFUSED',
    /bad_word-1\.0/,
  ],
  [
    'a blocked package that another of npm brings along, beneath it and by an alias',
    { role: 'builder', dependencies: [npm('pulls-bad')] },
    'DEPENDENCY_REFUSED',
    /bad-two-1\.0\.0/,
  ],
  [
    'a package that would have to be built',
    { role: 'builder', dependencies: [pip('source-only')] },
    'DEPENDENCY_FAILED',
    /simple\/source-only/,
  ],
  [
    'a package that names another by the address of its source',
    { role: 'builder', dependencies: [pip('names-source')] },
    'DEPENDENCY_FAILED',
    /built-1\.0\.tar\.gz/,
  ],
  [
    'a package of npm that names a repository',
    { role: 'builder', dependencies: [npm('pulls-git')] },
    'DEPENDENCY_FAILED',
    /pulls-git/,
  ],
  [
    'a registry that takes longer than the role has time',
    { role: 'hasty', dependencies: [pip('hangs')] },
    'DEADLINE_EXCEEDED',
    /hangs/,
  ],
  [
    'any package for a role that may install nothing',
    { role: 'analyst', dependencies: [pip('greet')] },
    'DEPENDENCY_REFUSED',
    undefined,
  ],
  [
    'an address in place of a name',
    { role: 'builder', dependencies: [pip(`greet @ http://${HOST}/files/greet-1.0.zip`)] },
    'INVALID_REQUEST',
    undefined,
  ],
];
for (const [what, options, code, fetched] of refused)
  test(`C11: ${what}: ${code}, and the program never runs`, async () => {
    const earlier = started().length;
    await assert.rejects(mesh.sdk.run('print("ran")', options), (error) => {
      assert.equal(failureOf(error), code, String(error));
      return true;
    });
    if (fetched)
      assert.ok(
        asked.some((path) => fetched.test(path)),
        asked.join(),
      );
    else assert.deepEqual(asked, []);
    assert.deepEqual(
      asked.filter((path) => /ran-while-built|source-only-|other\.git/.test(path)),
      [],
    );
    const records = started().slice(earlier);
    assert.deepEqual(
      records.map(({ code: recorded }) => recorded),
      fetched ? [code] : [],
    );
    await until('nothing of the sandbox is left', () =>
      records.every(({ sandboxId }) =>
        mesh.processes().every(({ argv }) => !argv.join(' ').includes(String(sandboxId))),
      ),
    );
  });

test('control: pip by itself builds what is named by address, whatever it is told of binaries', () => {
  const argv = ['-m', 'pip', 'download', '--isolated', '--no-deps', '--only-binary=:all:'];
  const where = ['-d', directory, join(directory, 'built-1.0.tar.gz')];
  // It fails, since the backend is none; by then code of the package has run.
  assert.throws(() =>
    execFileSync('/usr/bin/python3', [...argv, ...where], {
      env: { TMPDIR: directory },
      stdio: 'ignore',
    }),
  );
  assert.ok(existsSync(join(directory, 'ran-while-built')));
});

test('a session keeps what was installed with its first program, and asks nobody again', async () => {
  const options = { role: 'builder', session: 'kept', dependencies: [pip('greet')] };
  assert.equal((await mesh.sdk.run('print(1)', options)).stdout, '1\n');
  asked = [];
  const again = await mesh.sdk.run('import greet; print(greet.hello())', options);
  assert.equal(again.stderr, '');
  assert.equal(again.stdout, 'hello noun\n');
  assert.deepEqual(asked, []);
});

test('a sandbox is made with packages of both managers, and has them in its first program', async () => {
  const boxes = new SandboxServiceClient(
    `unix:${join(mesh.runtime, 'runner.sock')}`,
    credentials.createInsecure(),
  );
  try {
    const spec = SandboxSpec.fromPartial({
      profile: 'node',
      dependencies: [npm('left-hand'), pip('greet')],
    });
    const made = await new Promise<CreateSandboxResponse>((resolve, reject) => {
      boxes.createSandbox(
        CreateSandboxRequest.fromPartial({ spec, name: 'made', role: 'builder' }),
        (error, response) => (error ? reject(error) : resolve(response)),
      );
    });
    assert.equal(made.sandbox?.state, SandboxState.READY);
    const code =
      'node -e "import(\'left-hand\').then(({ hand }) => console.log(hand()))"; python3 -c "import greet, os; print(greet.hello(), os.listdir(\'/tmp\'))"';
    const options = { role: 'builder', session: 'made', language: 'shell' };
    const { stdout, stderr } = await mesh.sdk.run(code, options);
    assert.equal(stderr, '');
    assert.equal(stdout, 'left\nhello noun []\n');
  } finally {
    boxes.close();
  }
});

test('a session whose packages were refused is not there afterwards', async () => {
  const options = { role: 'builder', session: 'refused' };
  const bad = { ...options, dependencies: [pip('brings-bad')] };
  await assert.rejects(mesh.sdk.run('print(1)', bad), { code: 7 });
  // A new one: what was installed for the other is not in it.
  const { stdout } = await mesh.sdk.run('import os; print(os.listdir())', options);
  assert.equal(stdout, '[]\n');
});

test('a caller that gives up while packages come leaves nothing', async () => {
  const gone = new AbortController();
  const running = mesh.sdk.run('print(1)', {
    role: 'builder',
    dependencies: [pip('greet')],
    signal: gone.signal,
  });
  await until('the install has begun', () => asked.length > 0);
  gone.abort();
  await assert.rejects(running, { code: 1 });
  await until('its end is recorded', () =>
    started().some(({ killedBy }) => killedBy === 'disconnect'),
  );
});

/** The records of execs so far. */
function started(): Readonly<Record<string, unknown>>[] {
  return mesh.audit('runner').filter(({ event }) => event === 'exec');
}

/** A simple index (https://packaging.python.org/en/latest/specifications/simple-repository-api/) with wheels made by hand. */
function pipIndex(): Record<string, [string, string]> {
  const files: readonly (readonly [string, string, Buffer])[] = [
    wheel(
      directory,
      'greet',
      '1.0',
      'from nouns import NOUN\ndef hello(): return "hello " + NOUN\n',
      'nouns',
    ),
    wheel(directory, 'nouns', '2.0', 'NOUN = "noun"\n'),
    wheel(directory, 'brings-bad', '1.0', '', 'bad_word'),
    wheel(directory, 'bad_word', '1.0', ''),
    wheel(directory, 'names-source', '1.0', '', `built @ http://${HOST}/files/built-1.0.tar.gz`),
    ['built', 'built-1.0.tar.gz', readFileSync(builtArchive())],
    ['source-only', 'source-only-1.0.tar.gz', sourceArchive()],
  ];
  return Object.fromEntries(
    files.flatMap(([name, file, content]) => {
      const digest = createHash('sha256').update(content).digest('hex');
      const page = `<!DOCTYPE html><a href="/files/${file}#sha256=${digest}">${file}</a>`;
      return [
        [`/simple/${name.replaceAll('_', '-')}/`, ['text/html', base64(page)]],
        [`/files/${file}`, ['application/octet-stream', content.toString('base64')]],
      ] as [string, [string, string]][];
    }),
  );
}

function sourceArchive(): Buffer {
  return tarball(directory, 'source-only-1.0', {
    'setup.py': 'from setuptools import setup\nsetup(name="source-only", version="1.0")\n',
    'PKG-INFO': 'Metadata-Version: 2.1\nName: source-only\nVersion: 1.0\n',
  });
}

/** Where it is built, code of it runs: that leaves a file and asks the registry. */
function builtArchive(): string {
  const backend = `import pathlib, tempfile, urllib.request
pathlib.Path(tempfile.gettempdir(), "ran-while-built").touch()
urllib.request.urlopen("http://${HOST}/ran-while-built")
`;
  const path = join(directory, 'built-1.0.tar.gz');
  const content = tarball(directory, 'built-1.0', {
    'pyproject.toml':
      '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    'backend.py': backend,
    'PKG-INFO': 'Metadata-Version: 2.1\nName: built\nVersion: 1.0\n',
  });
  writeFileSync(path, content);
  return path;
}

/** A registry (https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md). */
function npmRegistry(): Record<string, [string, string]> {
  const packages: readonly (readonly [string, string, Record<string, string>, object])[] = [
    [
      'left-hand',
      '1.0.2',
      {
        'index.js': 'export const hand = () => "left";\n',
        'post.js':
          'import { writeFileSync } from "node:fs";\nwriteFileSync("/workspace/postinstall-ran", "");\n',
      },
      { dependencies: { 'side-hand': '3.x' }, scripts: { postinstall: 'node post.js' } },
    ],
    ['side-hand', '3.1.4', { 'index.js': 'export const side = () => "side";\n' }, {}],
    ['pulls-bad', '1.0.0', { 'index.js': '' }, { dependencies: { fine: 'npm:bad-two@1.0.0' } }],
    [
      'pulls-git',
      '1.0.0',
      { 'index.js': '' },
      { dependencies: { other: `git+http://${HOST}/other.git` } },
    ],
    ['bad-two', '1.0.0', { 'index.js': '' }, {}],
  ];
  return Object.fromEntries(
    packages.flatMap(([name, version, files, more]) => {
      const manifest = { name, version, type: 'module', exports: './index.js', ...more };
      const content = tarball(directory, 'package', {
        ...files,
        'package.json': JSON.stringify(manifest),
      });
      const path = `/npm/${name}/-/${name.split('/').at(-1)}-${version}.tgz`;
      const integrity = `sha512-${createHash('sha512').update(content).digest('base64')}`;
      const dist = { tarball: `http://${HOST}${path}`, integrity };
      const versions = { [version]: { ...manifest, dist, hasInstallScript: 'scripts' in more } };
      const about = JSON.stringify({ name, 'dist-tags': { latest: version }, versions });
      return [
        [`/npm/${name}`, ['application/json', base64(about)]],
        [path, ['application/octet-stream', content.toString('base64')]],
      ] as [string, [string, string]][];
    }),
  );
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function run(program: string, ...argv: readonly string[]): void {
  execFileSync(program, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
}
