import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before as beforeAll, describe, type TestContext, test } from 'node:test';
import { MESH_UID, meshUser, powerIn, threadStatuses, uidOf } from './mesh-user.ts';
import { packageRoot } from './package-root.ts';
import { temporaryDirectory } from './testing/directory.ts';

const AS_ROOT = { skip: process.getuid?.() !== 0 };

const POWERLESS = `Name:\tnode
Uid:\t7\t7\t7\t7
Gid:\t7\t7\t7\t7
Groups:\t7${' '}
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000000
`;

describe('what /proc shows of root', () => {
  const cases: readonly (readonly [string, string, string | undefined])[] = [
    ['', '', undefined],
    ['Uid:\t7\t7\t7\t7', 'Uid:\t7\t7\t0\t7', 'Uid'],
    ['Uid:\t7\t7\t7\t7', 'Uid:\t8\t8\t8\t8', 'Uid'],
    ['Gid:\t7\t7\t7\t7', 'Gid:\t7\t7\t7\t0', 'Gid'],
    ['Groups:\t7 ', 'Groups:\t0 7 ', 'Groups'],
    ['Groups:\t7 ', 'Groups:\t7 27 ', 'Groups'],
    ['CapPrm:\t0000000000000000', 'CapPrm:\t0000000000000080', 'CapPrm'],
    ['CapEff:\t0000000000000000', 'CapEff:\t0000000000000001', 'CapEff'],
    ['CapAmb:\t0000000000000000', 'CapAmb:\t0000000000200000', 'CapAmb'],
    ['CapEff:\t0000000000000000\n', '', 'CapEff'],
  ];
  for (const [from, to, left] of cases)
    test(`${to === '' ? 'as it should be' : to.trim()}: ${left ?? 'nothing'} is left`, () => {
      assert.equal(powerIn(POWERLESS.replace(from, to), 7), left);
    });
});

describe('who a process becomes', () => {
  const grounds = (t: TestContext, mode: number): string => {
    const above = temporaryDirectory(t);
    mkdirSync(join(above, 'outrider'), { mode: 0o755 });
    chmodSync(above, mode);
    return join(above, 'outrider');
  };

  test('by itself the mesh’s user, where that can come to everything that it needs', (t) => {
    assert.equal(uidOf('auto', [grounds(t, 0o755)]), MESH_UID);
    assert.equal(uidOf('auto', [grounds(t, 0o711)]), MESH_UID);
  });

  test('root where it cannot, by a directory further up, unless it was named', (t) => {
    const closed = grounds(t, 0o700);
    assert.equal(uidOf('auto', ['/', closed]), 0);
    assert.equal(uidOf(4_711, [closed]), 4_711);
  });

  for (const wrong of [-1, 2 ** 31, 1.5, 'root', ''])
    test(`${JSON.stringify(wrong)} is no user`, () => {
      assert.throws(() => meshUser().parse(wrong));
    });
  for (const [text, user] of [
    ['auto', 'auto'],
    ['0', 0],
    ['4711', 4_711],
  ] as const)
    test(`${text} is one`, () => assert.equal(meshUser().parse(text), user));
});

/** What giving up root needs, where every user can read it: this installation may be where only root can. */
let open = '';
beforeAll(() => {
  open = mkdtempSync(join(tmpdir(), 'o-'));
  chmodSync(open, 0o755);
  copyFileSync(process.execPath, join(open, 'node'));
  copyFileSync(join(packageRoot, 'package.json'), join(open, 'package.json'));
  cpSync(join(packageRoot, 'core'), join(open, 'core'), { recursive: true });
});
after(() => rmSync(open, { recursive: true, force: true }));

/** What a process that gives up root says of itself then. */
function givingUp(
  uid: number,
  attempt: string,
  how: { before?: readonly string[]; env?: Record<string, string> } = {},
): string {
  const program = `
    import fs from 'node:fs';
    import { giveUpRoot } from '${join(open, 'core/mesh-user.ts')}';
    const code = async (what) => { try { return String((await what()) ?? 'done'); } catch (error) { return error.code ?? error.message; } };
    const gave = await code(() => giveUpRoot(${uid}));
    console.log(gave === 'done' ? await code(async () => ${attempt}) : gave);
  `;
  const argv = [
    ...(how.before ?? []),
    join(open, 'node'),
    '--conditions=outrider-source',
    '--input-type=module',
    '--eval',
    program,
  ];
  const [command = '', ...words] = argv;
  const { stdout, stderr } = spawnSync(command, words, {
    encoding: 'utf8',
    cwd: open,
    env: { PATH: process.env['PATH'], ...how.env },
  });
  return stdout.trim() || stderr;
}

describe('giving up root', AS_ROOT, () => {
  const secret = (t: TestContext): string => {
    const directory = temporaryDirectory(t);
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'secret'), '', { mode: 0o600 });
    return join(directory, 'secret');
  };
  const cases: readonly (readonly [string, (t: TestContext) => string, string])[] = [
    [
      'a file of root cannot be read',
      (t) => `fs.accessSync('${secret(t)}', fs.constants.R_OK)`,
      'EACCES',
    ],
    ['a process of root cannot be ended', () => `void process.kill(${process.pid}, 0)`, 'EPERM'],
    ['root cannot be taken back', () => 'process.setuid(0)', 'EPERM'],
    ['nor its group', () => 'process.setgid(0)', 'EPERM'],
    ['nothing can be given to others', (t) => `fs.chownSync('${secret(t)}', 0, 0)`, 'EPERM'],
  ];
  for (const [what, attempt, code] of cases)
    test(`${what}; control: without it, it can`, (t) => {
      assert.equal(givingUp(MESH_UID, attempt(t)), code);
      assert.equal(givingUp(0, attempt(t)), 'done');
    });

  test('no thread keeps it', () => {
    const threads = `fs.readdirSync('/proc/self/task').flatMap((one) => { try { return /^Uid:.*$/m.exec(fs.readFileSync('/proc/self/task/' + one + '/status', 'utf8'))[0]; } catch { return []; } })`;
    const uids = `(await fs.promises.stat('/'), [...new Set(${threads})].join())`;
    assert.equal(givingUp(4_711, uids), 'Uid:\t4711\t4711\t4711\t4711');
  });

  test('SIGUSR1 does not open the debugger', () => {
    const attempt = `(process.kill(process.pid, 'SIGUSR1'), await new Promise((done) => setTimeout(done, 200)), String(process.getBuiltinModule('inspector').url()))`;
    assert.equal(givingUp(MESH_UID, attempt), 'undefined');
    assert.match(
      givingUp(0, attempt, { env: { NODE_OPTIONS: '--inspect-port=127.0.0.1:0' } }),
      /ws:/,
    );
  });

  describe('that cannot be done is refused', () => {
    test('where changing the user is not allowed', () => {
      const before = ['setpriv', '--bounding-set=-setuid', '--inh-caps=-setuid'];
      assert.equal(givingUp(MESH_UID, '"served"', { before }), 'CONFIG_INVALID');
      assert.equal(givingUp(MESH_UID, '"served"', { before: ['setpriv'] }), 'served');
    });

    test('where a capability would stay', () => {
      const before = ['setpriv', '--securebits=+no_setuid_fixup'];
      assert.equal(givingUp(MESH_UID, '"served"', { before }), 'CONFIG_INVALID');
    });
  });
});

test('a thread that ends while all are looked at keeps no part from starting; where none is shown it does not start', (t) => {
  const tasks = temporaryDirectory(t);
  const at = (thread: string) => join(tasks, thread);
  for (const thread of ['1', '2', '3']) mkdirSync(at(thread));
  writeFileSync(join(at('1'), 'status'), 'Uid: 0');
  writeFileSync(join(at('3'), 'status'), 'Uid: 7');
  assert.deepEqual(threadStatuses(tasks), ['Uid: 0', 'Uid: 7'], '2 has ended');
  for (const thread of ['1', '3']) rmSync(join(at(thread), 'status'));
  assert.throws(() => threadStatuses(tasks), /shows no thread/);
  mkdirSync(join(at('1'), 'status'));
  assert.throws(() => threadStatuses(tasks), /EISDIR/, 'any other fault is one');
  assert.throws(() => threadStatuses(at('4')), /ENOENT/);
});

test('an ordinary user has nothing to give up', () => {
  const before = process.getuid?.() === 0 ? ['setpriv', '--reuid=4711', '--clear-groups'] : [];
  const uid = process.getuid?.() === 0 ? 4_711 : process.getuid?.();
  assert.equal(givingUp(MESH_UID, 'process.getuid()', { before }), String(uid));
});
