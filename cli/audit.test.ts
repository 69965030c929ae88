import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AuditChain, type AuditFields, AuditFile } from '#core/audit';
import { auditSigningKey } from '#core/keys';
import { outriderArgv } from '#core/testing/outrider-argv';
import { audit } from './audit.ts';

/** A state directory with one chain of `start`, four requests, `end` and a signed checkpoint, and its published head. */
async function state(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-audit-'));
  t.after(() => rmSync(root, { recursive: true }));
  const directory = join(root, 'audit');
  mkdirSync(directory);
  const file = join(directory, 'proxy.jsonl');
  const signingKey = auditSigningKey(join(root, 'audit-keys'), 'proxy');
  const chain = new AuditChain('proxy', new AuditFile(file), { signingKey });
  for (const target of ['a', 'b', 'c', 'd']) chain.append({ event: 'request', target });
  await chain.close();
  const head = chain.head;
  writeFileSync(join(directory, 'proxy.head.json'), JSON.stringify(head));
  const lines = () => readFileSync(file, 'utf8').trimEnd().split('\n');
  const write = (changed: readonly string[]) => writeFileSync(file, `${changed.join('\n')}\n`);
  return { root, directory, file, head, lines, write };
}

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const texts = [out, err].map((stream) => textOf(stream));
  const code = await audit(argv, out, err);
  out.end();
  err.end();
  const [outText = '', errText = ''] = await Promise.all(texts);
  return { code, out: outText, err: errText };
}

test('an untouched directory has nothing wrong, and its signatures are checked', async (t) => {
  const { directory } = await state(t);
  const { code, out } = await run('verify', directory);
  assert.equal(code, 0, out);
  assert.match(out, /7 records of 1 writers, 1 checkpoints, signatures checked: nothing wrong/);
});

for (const [what, argv] of [
  ['several files of one directory', ['proxy.jsonl', 'sidecar.jsonl']],
  ['a file beside its own directory', ['proxy.jsonl', '.']],
  ['the directory that one is in', ['.']],
  ['a file of the directory that one is in', ['./proxy.jsonl']],
] as const)
  test(`${what}: nothing wrong is found in what is right, and each signature is checked by the keys beside`, async (t) => {
    const { root, directory, lines, write } = await state(t);
    writeFileSync(join(directory, 'sidecar.jsonl'), '');
    const before = process.cwd();
    process.chdir(directory);
    t.after(() => process.chdir(before));
    const { code, out } = await run('verify', ...argv);
    assert.equal(code, 0, out);
    assert.match(out, /^7 records of 1 writers, 1 checkpoints, signatures checked: nothing wrong/);
    rmSync(join(root, 'audit-keys'), { recursive: true });
    auditSigningKey(join(root, 'audit-keys'), 'proxy');
    const other = await run('verify', ...argv);
    assert.match(other.out, /signature is not by a known key/, 'control');
    write(lines().slice(0, 4));
    if (argv.some((path) => path === '.'))
      assert.match((await run('verify', ...argv)).out, /tail was cut/);
  });

const damages: readonly (readonly [string, (lines: string[]) => string[], RegExp])[] = [
  [
    'a flipped byte',
    (lines) => lines.with(2, (lines[2] ?? '').replace('"b"', '"x"')),
    /proxy\.jsonl:4: .*changed/,
  ],
  [
    'a removed line',
    (lines) => lines.toSpliced(3, 1),
    /proxy\.jsonl:4: .*record 3 expected, 4 found/,
  ],
  [
    'two lines in another order',
    (lines) => lines.toSpliced(2, 2, lines[3] ?? '', lines[2] ?? ''),
    /record 2 expected, 3 found/,
  ],
  [
    'a repeated line',
    (lines) => lines.toSpliced(3, 0, lines[2] ?? ''),
    /record 3 expected, 2 found/,
  ],
  ['a cut tail', (lines) => lines.slice(0, 4), /the tail was cut/],
  [
    'a line cut short',
    (lines) => lines.with(6, (lines[6] ?? '').slice(0, 30)),
    /proxy\.jsonl:7: .*cut short/,
  ],
];
for (const [what, damage, found] of damages)
  test(`${what} is found`, async (t) => {
    const { directory, lines, write } = await state(t);
    write(damage(lines()));
    const { code, out } = await run('verify', directory);
    assert.equal(code, 1);
    assert.match(out, found);
  });

test('a checkpoint that another key signed is found, and passes only where nobody says which key', async (t) => {
  const { file, root } = await state(t);
  const other = join(root, 'other');
  auditSigningKey(other, 'proxy');
  assert.equal((await run('verify', file)).code, 0);
  const { code, out } = await run('verify', file, '--keys', join(other, 'proxy.audit.pub.json'));
  assert.equal(code, 1);
  assert.match(out, /signature is not by a known key/);
});

test('a head from elsewhere finds a tail that was cut, which the file alone cannot show', async (t) => {
  const { file, head, lines, write } = await state(t);
  write(lines().slice(0, 4));
  assert.equal((await run('verify', file)).code, 0);
  const { code, out } = await run(
    'verify',
    file,
    '--head',
    `${head.writer}:${head.seq}:${head.hash}`,
  );
  assert.equal(code, 1);
  assert.match(out, /the tail was cut/);
});

test('a receipt in one file vouches for the chain in another', async (t) => {
  const { directory } = await state(t);
  const sidecar = new AuditChain('sidecar', new AuditFile(join(directory, 'sidecar.jsonl')));
  sidecar.append({ event: 'request', target: 'x' });
  const receipts = new AuditChain('proxy', new AuditFile(join(directory, 'receipts.jsonl')));
  receipts.append({ event: 'receipt', head: sidecar.head });
  assert.equal((await run('verify', directory)).code, 0);
  const path = join(directory, 'sidecar.jsonl');
  const [first = ''] = readFileSync(path, 'utf8').split('\n');
  writeFileSync(path, `${first}\n`);
  const { code, out } = await run('verify', directory, '--json');
  assert.equal(code, 1);
  assert.match(JSON.parse(out).findings[0].problem, /the tail was cut/);
});

for (const argv of [
  [],
  ['verify'],
  ['list', 'x'],
  ['tail'],
  ['search', 'x', '--since', 'lately'],
  ['search', 'x', '--since', '10'],
  ['search', 'x', '--verdict', 'allow', '--verdict', 'deny'],
  ['search', 'x', '--since', '999999999999999999h'],
  ['tail', 'x', '-n', '0'],
  ['verify', 'x', '--bogus'],
  ['verify', 'x', '--head', 'nonsense'],
])
  test(`wrong usage exits with 2: ${argv.join(' ') || 'nothing'}`, async () => {
    const { code, err } = await run(...argv);
    assert.equal(code, 2);
    assert.match(err, /usage: outrider audit COMMAND/);
  });

test('a file that is not there is named', async () => {
  const { code, err } = await run('verify', '/nonexistent/audit');
  assert.equal(code, 1);
  assert.match(err, /\/nonexistent\/audit does not exist/);
});

/** A directory with a series of which the first files are gone, written by two processes one after the other. */
async function rotated(t: TestContext, count = 400) {
  const root = mkdtempSync(join(tmpdir(), 'outrider-audit-'));
  t.after(() => rmSync(root, { recursive: true }));
  const directory = join(root, 'audit');
  const file = join(directory, 'proxy.jsonl');
  const signingKey = auditSigningKey(join(root, 'audit-keys'), 'proxy');
  const head = { writer: '', seq: 0, hash: '' };
  for (const life of [1, 2]) {
    const sink = new AuditFile(file, { maxBytes: 8_192, files: 5 });
    const chain = new AuditChain('proxy', sink, { signingKey });
    for (let at = 0; at < count; at++) {
      const subject = at % 2 === 0 ? 'ann' : 'bob';
      chain.append({ event: 'request', target: `t${life}-${at}`, subject });
    }
    await chain.close();
    Object.assign(head, chain.head);
  }
  writeFileSync(join(directory, 'proxy.head.json'), JSON.stringify(head));
  return {
    directory,
    names: () =>
      readdirSync(directory)
        .filter((name) => name.endsWith('l'))
        .toSorted(),
  };
}

test('L4: of a series five files of bounded size are kept, and what is kept verifies, without its beginning', async (t) => {
  const { directory, names } = await rotated(t);
  assert.equal(names().length, 5);
  assert.ok(!names().includes('proxy.000001.jsonl'), 'the first is gone');
  for (const name of names())
    assert.ok(readFileSync(join(directory, name)).length <= 8_192, `${name} is too large`);
  const { code, out } = await run('verify', directory);
  assert.equal(code, 0, out);
  assert.match(out, /signatures checked: nothing wrong/);
});

const losses: readonly (readonly [string, (directory: string, names: string[]) => void, RegExp])[] =
  [
    [
      'a file in the middle',
      (directory, names) => rmSync(join(directory, names[2] ?? '')),
      /file \d+ of the series is missing/,
    ],
    [
      'the oldest that should be there',
      (directory, names) => rmSync(join(directory, names[0] ?? '')),
      /file \d+ of the series is missing/,
    ],
    [
      'the anchor of the oldest',
      (directory, names) => cutFirstLine(join(directory, names[0] ?? '')),
      /record 0 expected/,
    ],
    [
      'the anchor of the newest',
      (directory, names) => cutFirstLine(join(directory, names.at(-1) ?? '')),
      /record \d+ expected/,
    ],
  ];
function cutFirstLine(path: string): void {
  writeFileSync(path, readFileSync(path, 'utf8').replace(/^.*\n/, ''));
}
for (const [what, damage, found] of losses)
  test(`of a series, ${what} is missed`, async (t) => {
    const { directory, names } = await rotated(t);
    damage(directory, names());
    const { code, out } = await run('verify', directory);
    assert.equal(code, 1);
    assert.match(out, found);
  });

for (const [what, take] of [
  ['removed', (path: string) => rmSync(path)],
  ['put elsewhere', (path: string) => renameSync(path, `${path}.1`)],
] as const)
  test(`L4: a file that is ${what} while it is written is missed, and records go on into another`, async (t) => {
    const { directory, file, root } = await state(t);
    const signingKey = auditSigningKey(join(root, 'audit-keys'), 'proxy');
    const chain = new AuditChain('proxy', new AuditFile(file), { signingKey });
    const { ino } = statSync(file);
    await sleep(1_100);
    chain.append({ event: 'request', target: 'before' });
    assert.equal(statSync(file).ino, ino, 'control: one that is there goes on');
    take(file);
    await sleep(1_100);
    chain.append({ event: 'request', target: 'behind' });
    assert.match(readFileSync(file, 'utf8'), /^.*"event":"anchor","file":2,.*\n.*"behind"/);
    await chain.close();
    rmSync(join(directory, 'proxy.head.json'));
    const { code, out } = await run('verify', directory);
    assert.equal(code, 1);
    assert.match(out, /file 1 of the series is missing/);
    const again = new AuditFile(file, { maxBytes: 1, files: 5 });
    assert.deepEqual(again.turn(1_000), { file: 3, keeps: 5 }, 'a restart counts on');
    again.close();
  });

test('of a series whose last file was full a moment ago nothing is missed, and what is removed then is', async (t) => {
  const { directory, names } = await rotated(t);
  const number = (name = '') => Number(/\d+/.exec(name)?.[0]);
  const last = `proxy.${String(number(names().at(-2)) + 1).padStart(6, '0')}.jsonl`;
  renameSync(join(directory, 'proxy.jsonl'), join(directory, last));
  writeFileSync(join(directory, 'proxy.jsonl'), '');
  rmSync(join(directory, names()[0] ?? ''));
  const { code, out } = await run('verify', directory);
  assert.equal(code, 0, out);
  rmSync(join(directory, names()[0] ?? ''));
  assert.match((await run('verify', directory)).out, /file \d+ of the series is missing/);
});

test('a series that two processes wrote and that was never full enough to lose anything verifies from its first record', async (t) => {
  const { directory, names } = await rotated(t, 20);
  assert.ok(names().length > 1 && names().length < 5);
  assert.equal((await run('verify', directory)).code, 0);
});

test('tail gives the last records of all files, search those that every filter holds for, over full files too', async (t) => {
  const { directory } = await rotated(t);
  const targets = (text: string) =>
    text
      .trimEnd()
      .split('\n')
      .map((line): AuditFields => JSON.parse(line))
      .map(({ target }) => target);
  const last = await run('tail', directory, '-n', '3', '--event', 'request');
  assert.deepEqual([last.code, targets(last.out)], [0, ['t2-397', 't2-398', 't2-399']]);
  const bob = await run('search', directory, '--subject', 'bob', '--text', 't2-39');
  assert.deepEqual(targets(bob.out), ['t2-391', 't2-393', 't2-395', 't2-397', 't2-399']);
  assert.deepEqual(targets((await run('search', directory, '--text', 't2-39', '-n', '1')).out), [
    't2-390',
  ]);
  const none = await run('search', directory, '--subject', 'eve');
  assert.deepEqual([none.code, none.out], [1, '']);
  assert.equal((await run('search', directory, '--until', '1h')).code, 1, 'nothing is so old');
  for (const span of ['1h', '720h', '99999999h'])
    assert.equal((await run('search', directory, '--since', span)).code, 0, span);
  assert.equal((await run('search', directory, '--since', '2999-01-01T00:00:00Z')).code, 1);
});

test('whoever reads no more ends a search, without a word', async (t) => {
  const { directory } = await rotated(t, 1);
  const line = `${JSON.stringify({ event: 'request', target: 'x'.repeat(500) })}\n`;
  writeFileSync(join(directory, 'sidecar.jsonl'), line.repeat(20_000));
  const command = (then: string) =>
    spawnSync(
      'sh',
      [
        '-c',
        `"$@" ${then}`,
        'sh',
        process.execPath,
        ...outriderArgv(),
        'audit',
        'search',
        directory,
      ],
      {
        encoding: 'utf8',
        maxBuffer: 1e8,
      },
    );
  const cut = command('| head -n 1');
  assert.deepEqual([cut.stdout.split('\n').length, cut.stderr], [2, '']);
  const whole = command('| wc -l');
  assert.ok(Number(whole.stdout) > 20_000, 'control: who reads on gets all');
});
