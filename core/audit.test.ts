import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import {
  AuditChain,
  AuditFile,
  type AuditHead,
  type AuditSink,
  hashLine,
  readLine,
  verifyAudit,
  ZERO_HASH,
} from './audit.ts';
import { temporaryDirectory } from './testing/directory.ts';
import { generateSigningKey, publicIssuer } from './tokens.ts';

const key = generateSigningKey('outrider:audit:test');
const trusted = [publicIssuer(key)];
const A_TOKEN = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln';

function temporary(t: TestContext): string {
  return join(temporaryDirectory(t), 'audit', 'part.jsonl');
}

/** A sink in memory. */
function memory(): AuditSink & { lines: string[] } {
  const lines: string[] = [];
  return { lines, append: (line) => void lines.push(line) };
}

const linesOf = (path: string) => readFileSync(path, 'utf8').split('\n').slice(0, -1);
const problems = async (...args: Parameters<typeof verifyAudit>) =>
  (await verifyAudit(...args)).findings.map(({ line, problem }) => `${line}: ${problem}`);

/** A chain of start, five requests, end and a signed checkpoint. */
async function chainOf(writer = 'w-1'): Promise<{ lines: string[]; head: AuditHead }> {
  const sink = memory();
  const chain = new AuditChain('test', sink, { writer, signingKey: key });
  for (const target of ['a', 'b', 'c', 'd', 'e']) chain.append({ event: 'request', target });
  await chain.close();
  return { lines: sink.lines, head: chain.head };
}

test('records are numbered from 0, and each names the hash of the line before', async () => {
  const { lines } = await chainOf();
  const records = lines.map((line) => readLine(line));
  assert.deepEqual(
    records.map((record) => record?.seq),
    [0, 1, 2, 3, 4, 5, 6, 7],
  );
  assert.deepEqual(
    records.map((record) => record?.event),
    ['start', ...Array.from({ length: 5 }, () => 'request'), 'end', 'checkpoint'],
  );
  assert.deepEqual(
    records.map((record) => record?.prev),
    [ZERO_HASH, ...lines.slice(0, -1).map(hashLine)],
  );
});

test('a record has fixed fields, the time of its clock, and nothing that is absent', () => {
  const sink = memory();
  const chain = new AuditChain('proxy', sink, { writer: 'w-1', now: () => 0 });
  chain.append({ event: 'request', target: 'https://x/', verdict: 'allow', rule: undefined });
  assert.deepEqual(JSON.parse(sink.lines[1] ?? ''), {
    v: 1,
    part: 'proxy',
    writer: 'w-1',
    seq: 1,
    time: '1970-01-01T00:00:00.000Z',
    event: 'request',
    target: 'https://x/',
    verdict: 'allow',
    prev: hashLine(sink.lines[0] ?? ''),
  });
});

test('no token reaches a record, wherever it stands, and the chain still holds', async () => {
  const sink = memory();
  const chain = new AuditChain('test', sink);
  for (const detail of [A_TOKEN, `x\n${A_TOKEN}`, `Bearer abcdef`, 'http://u:pw@h/'])
    chain.append({ event: 'request', detail });
  const text = sink.lines.join('\n');
  assert.doesNotMatch(text, /c2ln|abcdef|:pw@/);
  assert.deepEqual(await problems(sink.lines), []);
});

describe('verifying', () => {
  test('control: an untouched chain has no finding, and its checkpoint is counted', async () => {
    const { lines, head } = await chainOf();
    const { findings, records, checkpoints, writers } = await verifyAudit(lines, {
      trusted,
      heads: [head],
    });
    assert.deepEqual(
      { findings, records, checkpoints },
      { findings: [], records: 8, checkpoints: 1 },
    );
    assert.deepEqual(writers, [head]);
  });

  const damages: readonly (readonly [string, (lines: string[]) => string[], RegExp])[] = [
    ['a flipped byte', (l) => l.with(2, (l[2] ?? '').replace('"b"', '"x"')), /^4: .*changed/],
    ['a space added', (l) => l.with(2, `${l[2]} `), /^4: .*changed/],
    ['a removed line', (l) => l.toSpliced(3, 1), /^4: .*record 3 expected, 4 found/],
    ['a removed first line', (l) => l.slice(1), /^1: .*record 0 expected, 1 found/],
    ['a doubled line', (l) => l.toSpliced(3, 0, l[2] ?? ''), /^4: .*record 3 expected, 2 found/],
    [
      'two lines in another order',
      (l) => l.toSpliced(2, 2, l[3] ?? '', l[2] ?? ''),
      /^3: .*record 2 expected, 3 found/,
    ],
    ['half a line', (l) => l.with(3, (l[3] ?? '').slice(0, 40)), /^4: not an audit record/],
    ['a line of another kind', (l) => l.toSpliced(3, 0, '{"v":1}'), /^4: not an audit record/],
    ['a line that is no object', (l) => l.toSpliced(3, 0, 'null'), /^4: not an audit record/],
  ];
  for (const [what, damage, finding] of damages)
    test(`finds ${what}`, async () => {
      const { lines } = await chainOf();
      assert.match((await problems(damage(lines), { trusted })).join('\n'), finding);
    });

  test('finds a tail cut below a head that is known from elsewhere', async () => {
    const { lines, head } = await chainOf();
    for (const keep of [7, 3, 1])
      assert.match(
        (await problems(lines.slice(0, keep), { heads: [head] })).join(),
        /tail was cut/,
      );
    assert.match((await problems([], { heads: [head] })).join(), /nothing found/);
  });

  test('finds a tail cut below what the next writer of the file saw', async () => {
    const first = await chainOf('w-1');
    const sink = { ...memory(), previous: first.head };
    const next = new AuditChain('test', sink, { writer: 'w-2' });
    assert.equal(next.head.seq, 0);
    assert.deepEqual(await problems([...first.lines, ...sink.lines]), []);
    const cut = first.lines.slice(0, 5);
    assert.match((await problems([...cut, ...sink.lines])).join(), /w-1: .*tail was cut/);
    assert.match((await problems(sink.lines)).join(), /w-1: .*nothing found/);
  });

  test("finds a tail cut below another writer's receipt; a receipt alone proves nothing amiss", async () => {
    const shipped = await chainOf('sc-1');
    const sink = memory();
    new AuditChain('proxy', sink).append({ event: 'receipt', head: shipped.head });
    assert.deepEqual(await problems([...sink.lines, ...shipped.lines]), []);
    assert.deepEqual(await problems(sink.lines), []);
    assert.match(
      (await problems([...sink.lines, ...shipped.lines.slice(0, 4)])).join(),
      /sc-1: .*tail was cut/,
    );
  });

  test('finds a chain written anew after it was acknowledged', async () => {
    const { head } = await chainOf();
    const sink = memory();
    const anew = new AuditChain('test', sink, { writer: head.writer });
    for (let count = 0; count < 9; count++) anew.append({ event: 'request', target: 'harmless' });
    assert.deepEqual(await problems(sink.lines), []);
    assert.match(
      (await problems(sink.lines, { heads: [head] })).join(),
      /not the one that was acknowledged/,
    );
  });

  test('finds a checkpoint by a key that is not trusted, over another head, or of another chain', async () => {
    const { lines } = await chainOf();
    const stranger = [publicIssuer(generateSigningKey('outrider:audit:test'))];
    assert.match(
      (await problems(lines, { trusted: stranger })).join(),
      /signature is not by a known/,
    );

    const last: Record<string, unknown> = JSON.parse(lines.at(-1) ?? '');
    const other = await chainOf('w-9');
    const borrowed: Record<string, unknown> = JSON.parse(other.lines.at(-1) ?? '');
    const swapped = JSON.stringify({ ...last, signature: borrowed['signature'] });
    assert.match(
      (await problems(lines.with(lines.length - 1, swapped), { trusted })).join(),
      /signature is not by a known key, or not over this head/,
    );
    const foreign = JSON.stringify({
      ...last,
      head: borrowed['head'],
      signature: borrowed['signature'],
    });
    assert.match(
      (await problems(lines.with(lines.length - 1, foreign), { trusted })).join(),
      /checkpoint is of another chain/,
    );
  });

  test('keeps the chains of several writers in one file apart', async () => {
    const [a, b] = [await chainOf('w-a'), await chainOf('w-b')];
    const mixed = a.lines.flatMap((line, index) => [line, b.lines[index] ?? '']);
    assert.deepEqual(await problems(mixed, { trusted, heads: [a.head, b.head] }), []);
  });
});

describe('checkpoints', () => {
  test('are written where there is something new, and only then', async () => {
    const sink = memory();
    const chain = new AuditChain('test', sink, { signingKey: key });
    await chain.checkpoint();
    await chain.checkpoint();
    assert.equal(sink.lines.length, 2);
    chain.append({ event: 'call' });
    await chain.checkpoint();
    assert.equal(sink.lines.length, 4);
  });

  test('leave no record unsigned that was written while one was being signed', async () => {
    const sink = memory();
    const chain = new AuditChain('test', sink, { signingKey: key });
    const signing = chain.checkpoint();
    chain.append({ event: 'call' });
    await signing;
    await chain.checkpoint();
    const signed = readLine(sink.lines.at(-1) ?? '')?.head?.seq ?? -1;
    assert.ok(signed >= 1, `signed up to ${signed}`);
    assert.deepEqual(await problems(sink.lines, { trusted }), []);
  });

  test('come by themselves every interval', async (t) => {
    const sink = memory();
    const chain = new AuditChain('test', sink, { signingKey: key });
    t.after(() => chain.close());
    chain.startCheckpoints(5);
    for (let tries = 0; sink.lines.length < 2 && tries < 200; tries++)
      await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(readLine(sink.lines[1] ?? '')?.event, 'checkpoint');
  });

  test('are not made without a key', async () => {
    const sink = memory();
    await new AuditChain('test', sink).checkpoint();
    assert.equal(sink.lines.length, 1);
  });
});

describe('an audit file', () => {
  test("is its owner's only, and a later writer names the head before it", async (t) => {
    const path = temporary(t);
    const first = new AuditChain('test', new AuditFile(path), { signingKey: key });
    await first.close();
    const second = new AuditChain('test', new AuditFile(path), { signingKey: key });
    await second.close();
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const lines = linesOf(path);
    assert.deepEqual(readLine(lines[3] ?? '')?.previous, first.head);
    assert.deepEqual(await problems(lines, { trusted, heads: [second.head] }), []);
  });

  test('a line that a crash cut short is ended first, and found', async (t) => {
    const path = temporary(t);
    await new AuditChain('test', new AuditFile(path)).close();
    const whole = linesOf(path);
    appendFileSync(path, '{"v":1,"part":"test","writer":"w-x","se');
    const next = new AuditChain('test', new AuditFile(path));
    next.append({ event: 'call' });
    await next.close();
    const lines = linesOf(path);
    assert.deepEqual(lines.slice(0, whole.length), whole);
    assert.match((await problems(lines)).join(), /^3: not an audit record/);
    assert.equal((await verifyAudit(lines)).records, lines.length - 1);
  });

  test('a crash inside the last record of a writer is found by the writer after it', async (t) => {
    const path = temporary(t);
    const crashed = new AuditChain('test', new AuditFile(path));
    crashed.append({ event: 'call', detail: 'last' });
    truncateSync(path, statSync(path).size - 10);
    const next = new AuditChain('test', new AuditFile(path));
    await next.close();
    assert.match(
      (await problems(linesOf(path), { heads: [crashed.head] })).join('\n'),
      /^2: not an audit record[^]*tail was cut/m,
    );
  });

  test('a long line at the end is found whole as the head of the writer before', async (t) => {
    const path = temporary(t);
    const chain = new AuditChain('test', new AuditFile(path));
    for (let count = 0; count < 40; count++)
      chain.append({ event: 'call', detail: 'x'.repeat(4_000) });
    assert.deepEqual(new AuditFile(path).previous, chain.head);
  });
});

const AS_ROOT = { skip: process.getuid?.() !== 0 };

describe('what cannot be recorded must not happen', () => {
  test('a sink that fails is AUDIT_UNAVAILABLE, and nothing is lost or numbered twice', async () => {
    const sink = memory();
    let full = false;
    const chain = new AuditChain('test', {
      append: (line) => {
        if (full) throw new Error('ENOSPC');
        sink.append(line);
      },
    });
    full = true;
    for (let tries = 0; tries < 3; tries++)
      assert.throws(() => chain.append({ event: 'call', detail: 'lost' }), {
        code: 'AUDIT_UNAVAILABLE',
      });
    full = false;
    chain.append({ event: 'call', detail: 'kept' });
    assert.equal(chain.head.seq, 1);
    assert.deepEqual(await problems(sink.lines, { heads: [chain.head] }), []);
  });

  test('a chain that cannot write its start is not made', () => {
    const broken: AuditSink = {
      append() {
        throw new Error('EIO');
      },
    };
    assert.throws(() => new AuditChain('test', broken), { code: 'AUDIT_UNAVAILABLE' });
  });

  test('/dev/full refuses every record', () => {
    const file = new AuditFile('/dev/full');
    assert.throws(() => new AuditChain('test', file), { code: 'AUDIT_UNAVAILABLE' });
  });

  test('a disk that takes half a line leaves none of it, and the next record is whole', async (t) => {
    const path = temporary(t);
    writeFileSync(join(path, '..', '..', 'program.mjs'), HALF_LINE);
    const script = join(path, '..', '..', 'program.mjs');
    // A limit on the size of files is a disk that fills in the middle of a write.
    const { stdout, stderr, status } = spawnSync(
      '/bin/sh',
      [
        '-c',
        'trap "" XFSZ; ulimit -f 8; exec "$@"',
        'sh',
        process.execPath,
        ...process.execArgv,
        script,
        new URL('audit.ts', import.meta.url).href,
        path,
      ],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
    const head: AuditHead = JSON.parse(stdout);
    assert.ok(head.seq > 3);
    assert.deepEqual(await problems(linesOf(path), { heads: [head] }), []);
  });

  test(
    'L4: a disk without room for another file keeps the full one, and the records go on into it',
    AS_ROOT,
    (t) => {
      const directory = dirname(temporary(t));
      mkdirSync(directory);
      writeFileSync(join(directory, '..', 'program.mjs'), NO_MORE_FILES);
      const rotate = (inodes: number): unknown => {
        const { stdout, stderr, status } = spawnSync(
          'unshare',
          [
            '--mount',
            '--propagation=private',
            '/bin/sh',
            '-c',
            `mount -t tmpfs -o size=4m,nr_inodes=${inodes} none "$1" && shift && exec "$@"`,
            'sh',
            directory,
            process.execPath,
            ...process.execArgv,
            join(directory, '..', 'program.mjs'),
            new URL('audit.ts', import.meta.url).href,
            directory,
          ],
          { encoding: 'utf8' },
        );
        assert.equal(status, 0, stderr);
        return JSON.parse(stdout);
      };
      // The directory is one, the file of the audit the second, and what else the program opens would be the third.
      assert.deepEqual(rotate(3), { files: ['audit.jsonl', 'other'], other: 'other', lines: 20 });
      assert.deepEqual(
        rotate(4),
        { files: ['audit.000001.jsonl', 'audit.jsonl', 'other'], other: 'other', lines: 20 },
        'control: with room it turns',
      );
    },
  );
});

/** Writes more than a file may hold beside another file, and prints what is where. */
const NO_MORE_FILES = `
import { openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
const [module, directory] = process.argv.slice(2);
const { AuditFile } = await import(module);
const other = openSync(join(directory, 'other'), 'a');
const file = new AuditFile(join(directory, 'audit.jsonl'), { maxBytes: 512, files: 5 });
const line = 'x'.repeat(49);
for (let count = 0; count < 20; count++) {
  file.turn(50);
  file.append(line);
}
writeSync(other, 'other');
const files = readdirSync(directory).sort();
const text = (name) => readFileSync(join(directory, name), 'utf8');
const audits = files.filter((name) => name.startsWith('audit'));
const lines = audits.flatMap((name) => text(name).split('\\n').slice(0, -1)).length;
process.stdout.write(JSON.stringify({ files, other: text('other'), lines }));
`;

/** Fills a file to its limit, then writes what still fits; prints the head. */
const HALF_LINE = `
const [module, path] = process.argv.slice(2);
const { AuditChain, AuditFile } = await import(module);
const chain = new AuditChain('test', new AuditFile(path));
let code = '';
while (code === '') {
  try { chain.append({ event: 'call', detail: 'x'.repeat(700) }); } catch (error) { code = error.code; }
}
if (code !== 'AUDIT_UNAVAILABLE') process.exit(9);
chain.append({ event: 'call' });
process.stdout.write(JSON.stringify(chain.head));
`;
