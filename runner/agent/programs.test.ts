import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { StartOrder } from '../agent-link.ts';
import { PROFILES, waitingIn } from '../profiles.ts';
import { createBoxes, hasModules, type LiveBox } from './test-rig.ts';

/** What runs in each profile, in real boxes. */

const boxes = createBoxes(221_000);
after(() => boxes.close());

const js = (code: string, over: Partial<StartOrder> = {}): Partial<StartOrder> => ({
  language: 'javascript',
  name: 'main.mjs',
  code,
  ...over,
});
const ts = (code: string): Partial<StartOrder> => ({
  language: 'typescript',
  name: 'main.mts',
  code,
});
const py = (code: string, over: Partial<StartOrder> = {}): Partial<StartOrder> => ({
  language: 'python',
  name: 'main.py',
  code,
  ...over,
});
const sh = (code: string, over: Partial<StartOrder> = {}): Partial<StartOrder> => ({
  language: 'shell',
  name: 'main.sh',
  code,
  ...over,
});
const LONG = 'x'.repeat(200_000);

type Case = readonly [what: string, order: Partial<StartOrder>, stdout: string, exit: number];

const NODE: readonly Case[] = [
  ['says what it is told to', js('console.log("a")'), 'a\n', 0],
  [
    'takes its arguments',
    js('console.log(process.argv.slice(2).join())', { args: ['1', 'b c'] }),
    '1,b c\n',
    0,
  ],
  [
    'knows where it is',
    js('console.log(process.cwd(), import.meta.url)'),
    '/workspace file:///workspace/main.mjs\n',
    0,
  ],
  [
    'may await at its top',
    js('console.log(await new Promise((r) => setTimeout(r, 1, "late")))'),
    'late\n',
    0,
  ],
  [
    'may require',
    js('const { basename } = require("path"); console.log(basename("/a/b"))'),
    'b\n',
    0,
  ],
  [
    'has its environment',
    js('console.log(process.env.A, process.env.HOME)', { env: { A: '1', HOME: '/tmp' } }),
    '1 /tmp\n',
    0,
  ],
  [
    'may be 200 000 characters long',
    js(`const x = "${LONG}"; console.log(x.length)`),
    '200000\n',
    0,
  ],
  [
    'may import what it wrote',
    js(
      'require("fs").writeFileSync("b.mjs", "export default 5"); console.log((await import("./b.mjs")).default)',
    ),
    '5\n',
    0,
  ],
  [
    'may start another node',
    js(
      'console.log(require("child_process").execFileSync("node", ["-p", "1+1"]).toString().trim())',
    ),
    '2\n',
    0,
  ],
  ['ends with the code that it sets', js('process.exitCode = 7'), '', 7],
  [
    'may be TypeScript',
    ts('interface A { x: number }\nconst a: A = { x: 1 };\nconsole.log(a.x satisfies number)'),
    '1\n',
    0,
  ],
  ['may be shell in the same profile', sh('echo "$0 $1"', { args: ['a'] }), 'main.sh a\n', 0],
  ['may be a command in the same profile', { argv: ['node', '-p', '2+2'] }, '4\n', 0],
];
const SHELL: readonly Case[] = [
  ['says what it is told to', sh('echo a'), 'a\n', 0],
  [
    'has its name and arguments',
    sh('echo "$0:$#:$2"', { args: ['a', 'b c'] }),
    'main.sh:2:b c\n',
    0,
  ],
  ['has no input unless some is given', sh('cat; echo end'), 'end\n', 0],
  ['ends with its code', sh('exit 3'), '', 3],
  [
    'may be 200 000 characters long',
    sh(`x='${LONG}'; echo "$0 $1 \${#x}"`, { args: ['a'] }),
    'main.sh a 200000\n',
    0,
  ],
  ['may be a command', { argv: ['/bin/echo', 'a'] }, 'a\n', 0],
  ['is 127 where the command is not there', { argv: ['/no/such'] }, '', 127],
  ['runs where it is told to', sh('pwd', { cwd: '/tmp' }), '/tmp\n', 0],
  ['is 127 where that is not there', sh('pwd', { cwd: '/no/such' }), '', 127],
];
const PYTHON: readonly Case[] = [
  [
    'has its arguments',
    py('import sys; print(sys.argv)', { args: ['a'] }),
    "['main.py', 'a']\n",
    0,
  ],
  [
    'finds modules beside it, also by the names of the agent',
    py(
      'open("outrider_wire.py", "w").write("x = 5")\nimport outrider_wire\nprint(outrider_wire.x)',
    ),
    '5\n',
    0,
  ],
  ['may leave by exit()', py('exit(4)'), '', 4],
  [
    'shows its own lines in a traceback that it prints',
    py(
      'import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    print("1 / 0" in traceback.format_exc())',
    ),
    'True\n',
    0,
  ],
  [
    'may inspect its own source',
    py('import inspect\ndef f(): return 1\nprint(inspect.getsource(f))'),
    'def f(): return 1\n\n',
    0,
  ],
  ['may be 200 000 characters long', py(`x = "${LONG}"; print(len(x))`), '200000\n', 0],
  ['may be shell in the same profile', sh('echo "$0"'), 'main.sh\n', 0],
];

describe('a limit that the program must set for itself, where the host has no control groups', () => {
  const rlimits = { AS: 2 ** 28, NOFILE: 16 };
  const cases: readonly (readonly [string, string, Partial<StartOrder>])[] = [
    ['python', 'MemoryError', py('bytearray(300 << 20)')],
    ['python', 'OSError', py('held = [open("/dev/null") for _ in range(20)]')],
  ];
  for (const [profile, type, order] of cases)
    test(type, async () => {
      const { run } = await boxes.profile(profile);
      assert.equal((await run({ ...order, rlimits })).end?.exception?.type, type);
      assert.equal((await run(order)).end?.exit, 0, 'control: without the limit it works');
    });

  test('holds for a shell, too', async () => {
    const { run } = await boxes.profile('shell');
    const { stdout } = await run(sh('ulimit -v; ulimit -n', { rlimits }));
    assert.equal(stdout, `${2 ** 28 / 1024}\n16\n`);
  });
});

for (const [profile, cases] of Object.entries({ node: NODE, shell: SHELL, python: PYTHON }))
  describe(`a program of the profile ${profile}`, () => {
    let box: LiveBox;
    before(async () => {
      box = await boxes.profile(profile);
    });
    for (const [what, order, stdout, exit] of cases)
      test(what, async () => {
        await box.link.ready();
        const outcome = await box.run(order);
        assert.deepEqual([outcome.stdout, outcome.end?.exit], [stdout, exit], outcome.stderr);
      });
  });

describe('an uncaught error of Node', () => {
  let box: LiveBox;
  before(async () => {
    box = await boxes.profile('node');
  });
  const cases: readonly (readonly [string, Partial<StartOrder>, string, string, RegExp])[] = [
    [
      'thrown',
      js('function f() {\n  throw new TypeError("no é");\n}\nf();'),
      'TypeError',
      'no é',
      /^file:\/\/\/workspace\/main\.mjs:2\n {2}throw new TypeError\("no é"\);\n/,
    ],
    [
      'in TypeScript',
      ts('const a: number = 1;\nthrow new RangeError(`${a}`)'),
      'RangeError',
      '1',
      /main\.mts:2/,
    ],
    ['a promise', js('Promise.reject(new Error("later"))'), 'Error', 'later', /main\.mjs:1/],
    ['that is no error', js('throw "x"'), 'string', 'x', /x/],
    ['of the syntax', js('let x = ;'), 'SyntaxError', "Unexpected token ';'", /main\.mjs:1/],
  ];
  for (const [what, order, type, message, printed] of cases)
    test(`${what} is printed as ever, ends with 1, and is told`, async () => {
      const { end, stderr } = await box.run(order);
      assert.equal(end?.exit, 1);
      assert.deepEqual([end.exception?.type, end.exception?.message], [type, message]);
      assert.match(stderr, printed);
    });

  test('control: an error that is caught is not told', async () => {
    const { end } = await box.run(js('try { throw new Error("x") } catch {}'));
    assert.deepEqual([end?.exit, end?.exception], [0, undefined]);
  });
});

describe('stdin', () => {
  const cases: readonly (readonly [string, Partial<StartOrder>])[] = [
    [
      'node',
      js('let t = ""; for await (const d of process.stdin) t += d; console.log(t.toUpperCase())'),
    ],
    ['shell', sh('tr a-z A-Z')],
    ['python', py('import sys; print(sys.stdin.read().upper())')],
  ];
  for (const [profile, order] of cases)
    test(`reaches ${profile} until it is closed`, async () => {
      const { link, start } = await boxes.profile(profile);
      const { id, outcome } = start({ ...order, stdin: true });
      await link.stdin(id, Buffer.from('ab'));
      await link.stdin(id, Buffer.from('c'));
      link.closeStdin(id);
      assert.equal((await outcome).stdout.trim(), 'ABC');
    });
});

describe('the profile python-data', {
  skip: hasModules('numpy', 'pandas', 'matplotlib')
    ? false
    : 'this host has no numpy, pandas and matplotlib; .ci/run installs them',
}, () => {
  let box: LiveBox;
  before(async () => {
    box = await boxes.profile('python-data');
  });

  test('has numpy, pandas and matplotlib.pyplot before the program comes, and says nothing of it', async () => {
    const { stdout, stderr } = await box.run(
      py('import sys; print([n in sys.modules for n in ("numpy", "pandas", "matplotlib.pyplot")])'),
    );
    assert.deepEqual([stdout, stderr], ['[True, True, True]\n', '']);
  });

  test('computes, and draws without a display', async () => {
    await box.link.ready();
    const { stdout, stderr, end } = await box.run(
      py(`import pandas, numpy, matplotlib.pyplot as plt
print(pandas.DataFrame({'a': numpy.arange(4)}).a.sum())
plt.plot([1, 2]); plt.savefig('/output/plot.png')`),
    );
    assert.equal(stdout, '6\n', stderr);
    assert.deepEqual(
      end?.artefacts.map(({ path }) => path),
      ['plot.png'],
    );
  });

  test('fits a limit of processes: it starts no thread of its own', async () => {
    await box.link.ready();
    const { stdout } = await box.run(
      py(
        'import numpy; numpy.ones((300, 300)) @ numpy.ones((300, 300)); print(len(__import__("os").listdir("/proc/self/task")))',
      ),
    );
    assert.equal(stdout, '1\n');
  });

  test('control: in the profile python none of it is loaded', async () => {
    const { stdout } = await (await boxes.profile('python')).run(
      py('import sys; print([n in sys.modules for n in ("numpy", "pandas", "matplotlib")])'),
    );
    assert.equal(stdout, '[False, False, False]\n');
  });
});

describe('a profile that cannot be', () => {
  test('is told in words, not by a wait: one that the agent does not know', async () => {
    const { link } = await boxes.open({ profile: 'cobol', env: {} }, false);
    await assert.rejects(link.ready(), {
      code: 'SANDBOX_FAILED',
      message: 'this sandbox has no profile cobol',
    });
  });

  test('is told in words: one whose modules are not there', async () => {
    const { link } = await boxes.open(
      { profile: 'python-data', env: { ...waitingIn('python-data').env, MPLBACKEND: 'no such' } },
      false,
    );
    await assert.rejects(link.ready(), (error: Error) => {
      assert.match(error.message, /^the profile python-data needs numpy, pandas and matplotlib: /);
      return true;
    });
  });

  test('loses a program that could not wait for it, in the same words, and does not end it as if it had run', async () => {
    const { start } = await boxes.open(
      { profile: 'python-data', env: { ...waitingIn('python-data').env, MPLBACKEND: 'no such' } },
      false,
    );
    const { end, lost } = await start(py('print(1)')).outcome;
    assert.equal(end, undefined);
    assert.match(lost, /^the profile python-data needs numpy, pandas and matplotlib: /);
  });

  test('control: every profile of the runner waits and runs in time', async () => {
    for (const { name } of PROFILES) {
      if (name === 'python-data' && !hasModules('numpy', 'pandas', 'matplotlib')) continue;
      const { run } = await boxes.profile(name);
      assert.equal((await run({ argv: ['/bin/echo', name] })).stdout, `${name}\n`);
    }
  });
});
