import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { createBoxes, type LiveBox } from './test-rig.ts';

/** Files by the agent, against programs that lay traps for it. */

const boxes = createBoxes(223_000);
after(() => boxes.close());
let box: LiveBox;
before(async () => {
  box = await boxes.profile('python');
});
beforeEach(() => box.link.ready());

/** Runs this first, and asserts that it worked. */
async function given(code: string): Promise<void> {
  const { end, stderr } = await box.run({ code });
  assert.equal(end?.exit, 0, stderr);
  await box.link.ready();
}

const text = async (path: string): Promise<string> => (await box.link.read(path)).toString();

describe('no link is followed', () => {
  before(async () => {
    await box.link.ready();
    await given(`
import os
os.makedirs('/workspace/real/deep'); open('/workspace/real/deep/file', 'w').write('here')
os.symlink('/etc/passwd', '/workspace/to-file'); os.symlink('/workspace/real', '/workspace/to-directory')
os.symlink('/proc/1', '/workspace/to-proc'); os.mkfifo('/workspace/fifo')
`);
  });

  const refused: readonly (readonly [string, string])[] = [
    ['a link to a file', 'to-file'],
    ['a link to a directory on the way', 'to-directory/deep/file'],
    ['a link into /proc on the way', 'to-proc/environ'],
    ['/proc itself, where the agent has its own', '/proc/self/environ'],
    ['/sys', '/sys/kernel/notes'],
    ['a fifo, which would hang', 'fifo'],
    ['a device', '/dev/zero'],
    ['a directory', 'real'],
    ['the root', '/'],
    ['a NUL', 'a\0b'],
  ];
  for (const [what, path] of refused)
    test(`reading ${what} is refused`, async () => {
      await assert.rejects(box.link.read(path), { code: 'FILE_REFUSED' });
    });

  test('nor when writing, listing, looking or removing', async () => {
    const content = [Buffer.from('x')];
    for (const work of [
      () => box.link.write('to-directory/new', content, 0o644),
      () => box.link.list('to-directory', 1),
      () => box.link.stat('to-directory/deep'),
      () => box.link.remove('to-directory/deep', true),
    ])
      await assert.rejects(work(), { code: 'FILE_REFUSED' });
    assert.equal(await text('real/deep/file'), 'here', 'control: it is there, and can be read');
  });

  test('what is written in the place of a link replaces the link', async () => {
    await box.link.write('to-file', [Buffer.from('mine')], 0o644);
    assert.equal(await text('to-file'), 'mine');
    assert.match(await text('/etc/passwd'), /^root/);
  });

  test('removing a tree removes links in it, not what they name', async () => {
    await given(`
import os
os.makedirs('/workspace/keep'); open('/workspace/keep/file', 'w').write('kept')
os.makedirs('/workspace/tree/sub'); os.symlink('/workspace/keep', '/workspace/tree/sub/link')
`);
    await box.link.remove('tree', true);
    assert.equal(await text('keep/file'), 'kept');
    await assert.rejects(box.link.stat('tree'), { code: 'FILE_NOT_FOUND' });
  });
});

test('a file that is swapped for a link again and again is read as it is, or refused', async () => {
  const { id, outcome, wrote } = box.start({
    code: `
import os
for name in ('good', 'flips'): open('/workspace/' + name, 'w').write('good')
print('up', flush=True)
while True:
    os.link('/workspace/good', '/workspace/.a'); os.rename('/workspace/.a', '/workspace/flips')
    os.symlink('/etc/hostname', '/workspace/.b'); os.rename('/workspace/.b', '/workspace/flips')
`,
  });
  await wrote('up');
  const seen = new Set<string>();
  const until = Date.now() + 20_000;
  while (seen.size < 2 && Date.now() < until)
    seen.add(await text('flips').catch((error: { code: string }) => error.code));
  box.link.kill(id);
  await outcome;
  assert.deepEqual([...seen].toSorted(), ['FILE_REFUSED', 'good']);
});

test('a directory that is swapped for a link on the way is never passed', async () => {
  const { id, outcome, wrote } = box.start({
    code: `
import os
os.makedirs('/workspace/d1'); open('/workspace/d1/hostname', 'w').write('good')
os.symlink('/etc', '/workspace/l1')
print('up', flush=True)
while True:
    os.rename('/workspace/d1', '/workspace/way'); os.rename('/workspace/way', '/workspace/d1')
    os.rename('/workspace/l1', '/workspace/way'); os.rename('/workspace/way', '/workspace/l1')
`,
  });
  await wrote('up');
  const seen = new Set<string>();
  const until = Date.now() + 20_000;
  for (let tries = 0; tries < 3_000 && Date.now() < until; tries++)
    seen.add(await text('way/hostname').catch((error: { code: string }) => error.code));
  box.link.kill(id);
  await outcome;
  assert.ok(seen.size > 1, `control: the swaps were met: ${[...seen].join()}`);
  assert.deepEqual(
    [...seen].filter((one) => !['FILE_REFUSED', 'FILE_NOT_FOUND', 'good'].includes(one)),
    [],
  );
});

describe('a thousand directories, one in the other', () => {
  const DEEP = `
import os
def deep(top):
    os.chdir(top)
    for _ in range(1000):
        os.mkdir('d'); os.chdir('d')
    open('bottom', 'w').close()
`;

  test('are removed', async () => {
    await given(`${DEEP}\nos.mkdir('/workspace/top'); deep('/workspace/top')`);
    await box.link.remove('top', true);
    await assert.rejects(box.link.stat('top'), { code: 'FILE_NOT_FOUND' });
  });

  test('are listed as far as was asked, and do not keep a program from ending', async () => {
    const { end } = await box.run({ code: `${DEEP}\ndeep('/output')` });
    assert.deepEqual(end?.artefacts, []);
    assert.equal((await box.link.list('/output', 16)).files.length, 16);
    await box.link.remove('/output/d', true);
  });
});

describe('what is left in /output', () => {
  const cases: readonly (readonly [string, string, readonly { path: string; size: number }[]])[] = [
    ['nothing', 'pass', []],
    [
      'files, also in directories, by their paths in order',
      `os.makedirs('/output/b'); open('/output/b/c', 'w').write('123'); open('/output/a', 'w').close()`,
      [
        { path: 'a', size: 0 },
        { path: 'b/c', size: 3 },
      ],
    ],
    [
      'no link, fifo, socket or device',
      `os.symlink('/etc/passwd', '/output/l'); os.symlink('/etc', '/output/d'); os.mkfifo('/output/f')
import socket; socket.socket(socket.AF_UNIX).bind('/output/s')`,
      [],
    ],
    [
      'a sparse file with the size that it says',
      `open('/output/s', 'w').truncate(1 << 50)`,
      [{ path: 's', size: 2 ** 50 }],
    ],
    [
      'no name that is no text',
      `open(b'/output/\\xff', 'w').close(); open('/output/\\u00e9', 'w').close()`,
      [{ path: 'é', size: 0 }],
    ],
    [
      'a file of a directory that was moved there',
      `os.makedirs('/workspace/m'); open('/workspace/m/f', 'w').close()
import shutil; shutil.move('/workspace/m', '/output/m')`,
      [{ path: 'm/f', size: 0 }],
    ],
  ];
  for (const [what, code, found] of cases)
    test(`is ${what}`, async () => {
      const { end, stderr } = await box.run({ code: `import os\n${code}` });
      assert.equal(end?.exit, 0, stderr);
      assert.deepEqual(end.artefacts, found);
      await box.link.ready();
      await given(`
import os, shutil
for name in os.listdir(b'/output'):
    path = b'/output/' + name
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)`);
    });

  test('is at most 256 files, and finding them takes no longer than that', async () => {
    const { end } = await box.run({
      code: `
import os
for n in range(3000): open(f'/output/{n:04}', 'w').close()`,
    });
    assert.equal(end?.artefacts.length, 256);
    assert.equal(new Set(end.artefacts.map(({ path }) => path)).size, 256);
  });
});

test('a file that a program cannot be given whole is not there at all', async () => {
  const content = Array.from({ length: 20 }, () => Buffer.alloc(2 ** 20));
  await assert.rejects(box.link.write('in/large', content, 0o644), { code: 'FILE_REFUSED' });
  assert.deepEqual((await box.link.list('in', 1)).files, []);
});
