import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { AuditChain, AuditFile } from '#core/audit';
import { auditSigningKey } from '#core/keys';
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
  const code = await audit(argv, out, err);
  return { code, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

test('an untouched directory has nothing wrong, and its signatures are checked', async (t) => {
  const { directory } = await state(t);
  const { code, out } = await run('verify', directory);
  assert.equal(code, 0, out);
  assert.match(out, /7 records of 1 writers, 1 checkpoints, signatures checked: nothing wrong/);
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
  ['tail', 'x'],
  ['verify', 'x', '--bogus'],
  ['verify', 'x', '--head', 'nonsense'],
])
  test(`wrong usage exits with 2: ${argv.join(' ') || 'nothing'}`, async () => {
    const { code, err } = await run(...argv);
    assert.equal(code, 2);
    assert.match(err, /usage: outrider audit verify/);
  });

test('a file that is not there is named', async () => {
  const { code, err } = await run('verify', '/nonexistent/audit');
  assert.equal(code, 1);
  assert.match(err, /\/nonexistent\/audit does not exist/);
});
