import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AuditChain, AuditFile, verifyAudit } from './audit.ts';
import { rotatedFiles } from './audit-series.ts';

const ROTATION = { maxBytes: 2_048, files: 4 };
const AS_ROOT = { skip: process.getuid?.() !== 0 };

function place(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'o-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return { directory, path: join(directory, 'part.jsonl') };
}

const open = (path: string, slots = true) =>
  new AuditChain('part', new AuditFile(path, ROTATION, { slots }));

/** One process's life: so many records, and its end. */
async function live(path: string, records: number, slots = true): Promise<void> {
  const chain = open(path, slots);
  for (let at = 0; at < records; at++) chain.append({ event: 'call', detail: 'x'.repeat(100) });
  await chain.close();
}

const linesAt = (path: string) => readFileSync(path, 'utf8').split('\n').slice(0, -1);
const linesOf = (path: string) => [
  ...rotatedFiles(path).flatMap((file) => linesAt(file.path)),
  ...linesAt(path),
];
const findings = async (path: string) =>
  (await verifyAudit(linesOf(path), { begins: [1] })).findings;

test('L4: a process that may rename nothing goes round in the files that it has opened before, and what is kept verifies', async (t) => {
  const { directory, path } = place(t);
  const chain = open(path);
  const before = readdirSync(directory).toSorted();
  assert.equal(before.length, 4, 'all are there from the start');
  for (let at = 0; at < 100; at++) chain.append({ event: 'call', detail: 'x'.repeat(100) });
  await chain.close();
  assert.deepEqual(readdirSync(directory).toSorted(), before);
  const numbers = rotatedFiles(path).map(({ number }) => number);
  assert.ok((numbers[0] ?? 0) > 3, 'it has gone round');
  assert.deepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  );
  assert.equal(new Set(numbers).size, 3);
  for (const { path: file } of rotatedFiles(path)) assert.ok(statSync(file).size <= 2_048);
  assert.deepEqual(await findings(path), []);
});

test('L4: a file that has outgrown its size in an earlier life is renamed as long as that is allowed, and not copied', async (t) => {
  const { path } = place(t);
  const before = new AuditChain('part', new AuditFile(path, { ...ROTATION, maxBytes: 1_048_576 }));
  for (let at = 0; at < 100; at++) before.append({ event: 'call', detail: 'x'.repeat(100) });
  await before.close();
  const { ino, size } = statSync(path);
  assert.ok(size > 5 * ROTATION.maxBytes);
  await live(path, 3);
  const [full] = rotatedFiles(path);
  assert.deepEqual(full && [statSync(full.path).ino, statSync(full.path).size], [ino, size]);
  assert.deepEqual(await findings(path), []);
  await live(path, 30);
  assert.deepEqual(await findings(path), [], 'and from there on it goes round');
});

test('L4: another life goes on behind the last, whichever way it makes room', async (t) => {
  const { path } = place(t);
  for (const slots of [true, false, true, true]) {
    await live(path, 6, slots);
    assert.deepEqual(await findings(path), []);
    assert.ok(rotatedFiles(path).length <= 3);
  }
  const previous = linesOf(path)
    .map((line) => JSON.parse(line).previous)
    .filter(Boolean);
  assert.ok(previous.length > 0, 'the start of a life names the end of the one before');
});

test('L4: a process that was killed amid copying a full file leaves it twice, and it counts once', async (t) => {
  for (const part of [1, 0.5]) {
    const { path } = place(t);
    await live(path, 25);
    const [oldest] = rotatedFiles(path);
    const free = oldest?.path ?? assert.fail();
    const all = linesOf(path).length;
    writeFileSync(free, readFileSync(path).subarray(0, statSync(path).size * part));
    await live(path, 1);
    assert.deepEqual(await findings(path), [], `${part}`);
    assert.ok(linesOf(path).length < all + 4, 'control: it is not there twice');
  }
});

/** What a program prints as JSON that is given our module and a disk of this size. */
function runOnDisk(t: TestContext, text: string, size: string): unknown {
  const { directory } = place(t);
  const program = join(directory, 'program.mjs');
  writeFileSync(program, text);
  const disk = join(directory, 'disk');
  const script = `mkdir -p "$1" && mount -t tmpfs -o size=${size} none "$1" && shift && exec "$@"`;
  const command = [process.execPath, ...process.execArgv, program];
  const module = new URL('audit.ts', import.meta.url).href;
  const { stdout, stderr, status } = spawnSync(
    'unshare',
    [
      '--mount',
      '--propagation=private',
      '/bin/sh',
      '-c',
      script,
      'sh',
      disk,
      ...command,
      module,
      disk,
    ],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
}

test(
  'L4: where there is no room for a copy the file grows on, and nothing is lost',
  AS_ROOT,
  (t) => {
    assert.deepEqual(runOnDisk(t, FULL, '20k'), { full: 1, lines: 200 });
    assert.deepEqual(
      runOnDisk(t, FULL, '1m'),
      { full: 2, lines: 200 },
      'control: with room they are copied',
    );
  },
);

test(
  'L4: a full file is not given up for one that there is no room for in its place',
  AS_ROOT,
  (t) => {
    assert.deepEqual(runOnDisk(t, LARGER, '20k'), { full: 3_000, current: 15_100 });
    assert.deepEqual(
      runOnDisk(t, LARGER, '1m'),
      { full: 15_000, current: 100 },
      'control: with room it makes way',
    );
  },
);

/** Writes 20 kB, 8 kB a file. */
const FULL = `
import { join } from 'node:path';
import { readdirSync, readFileSync, statSync } from 'node:fs';
const [module, directory] = process.argv.slice(2);
const { AuditFile } = await import(module);
const file = new AuditFile(join(directory, 'part.jsonl'), { maxBytes: 8_000, files: 5 }, { slots: true });
for (let at = 0; at < 200; at++) {
  file.turn(100);
  file.append(String(at).padStart(99, 'x'));
}
const names = readdirSync(directory).map((name) => join(directory, name));
const full = names.filter((name) => /\\d\\.jsonl$/.test(name) && statSync(name).size > 0).length;
const lines = names.flatMap((name) => readFileSync(name, 'utf8').split('\\n').slice(0, -1)).length;
process.stdout.write(JSON.stringify({ full, lines }));
`;

/** Has a place with 3 kB when 15 kB are to go there. */
const LARGER = `
import { join } from 'node:path';
import { statSync } from 'node:fs';
const [module, directory] = process.argv.slice(2);
const { AuditFile } = await import(module);
const path = join(directory, 'part.jsonl');
const live = (maxBytes, records) => {
  const file = new AuditFile(path, { maxBytes, files: 2 }, { slots: true });
  for (let at = 0; at < records; at++) {
    file.turn(100);
    file.append(String(at).padStart(99, 'x'));
  }
  file.close();
};
live(3_000, 31);
live(15_000, 150);
const [full, current] = ['part.000001.jsonl', 'part.jsonl'].map((name) => statSync(join(directory, name)).size);
console.log(JSON.stringify({ full, current }));
`;
