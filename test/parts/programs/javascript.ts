import type { Program } from './program.ts';

export const JAVASCRIPT: readonly Program[] = [
  {
    fact: 'promises, timers and microtasks run in their order',
    code: `
import { stat } from 'node:fs';
stat('/', () => {
  setTimeout(() => console.log('timeout'), 0);
  setImmediate(() => console.log('immediate'));
});
process.nextTick(() => console.log('tick'));
Promise.resolve().then(() => console.log('microtask'));
console.log('sync');`,
    // A module's own evaluation is a microtask: what it queues as such comes before the next tick. Behind a read comes what is immediate,
    // however late the timer is by then.
    stdout: 'sync\nmicrotask\ntick\nimmediate\ntimeout\n',
  },
  {
    fact: 'await stands at the top level',
    code: `
const wait = (ms) => new Promise((resolve) => setTimeout(() => resolve(ms), ms));
const all = await Promise.all([wait(8), wait(2), wait(5)]);
console.log(all.join());`,
    stdout: '8,2,5\n',
  },
  {
    fact: 'files in /workspace are written, read, listed and removed',
    code: `
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
await mkdir('a/b', { recursive: true });
await writeFile('a/b/c.txt', 'sea');
console.log(process.cwd(), await readFile('/workspace/a/b/c.txt', 'utf8'), await readdir('a', { recursive: true }));
await rm('a', { recursive: true });
console.log((await readdir('.')).includes('a'));`,
    stdout: "/workspace sea [ 'b', 'b/c.txt' ]\nfalse\n",
  },
  {
    fact: 'files given by the caller are there',
    files: { 'data/in.json': '{"n": 6}' },
    code: `
import { readFileSync } from 'node:fs';
const { n } = JSON.parse(readFileSync('data/in.json', 'utf8'));
console.log(n * 7);`,
    stdout: '42\n',
  },
  {
    fact: 'what is left in /output comes back',
    code: `
import { mkdirSync, writeFileSync } from 'node:fs';
writeFileSync('/output/table.csv', 'a,b\\n1,2\\n');
mkdirSync('/output/deep');
writeFileSync('/output/deep/ü.txt', 'grün');`,
    stdout: '',
    artefacts: { 'table.csv': 'a,b\n1,2\n', 'deep/ü.txt': 'grün' },
  },
  {
    fact: 'standard input is read as a stream',
    stdin: 'one\ntwo\nthree\n',
    code: `
import { createInterface } from 'node:readline';
let count = 0;
for await (const line of createInterface({ input: process.stdin })) console.log(++count, line.toUpperCase());`,
    stdout: '1 ONE\n2 TWO\n3 THREE\n',
  },
  {
    fact: 'without standard input there is its end at once',
    code: `
let text = '';
for await (const chunk of process.stdin) text += chunk;
console.log(text.length);`,
    stdout: '0\n',
  },
  {
    fact: 'the exit code is the one of process.exit',
    code: `console.log('before'); process.exit(7); console.log('after');`,
    stdout: 'before\n',
    exit: 7,
  },
  {
    fact: 'process.exitCode lets the rest run',
    code: `process.exitCode = 3; setTimeout(() => console.log('later'), 1);`,
    stdout: 'later\n',
    exit: 3,
  },
  {
    fact: 'a thrown error comes back as fields',
    code: `
function inner() { throw new RangeError('out of bounds: ü'); }
console.log('before');
inner();`,
    stdout: 'before\n',
    stderr: /RangeError: out of bounds: ü\n\s+at inner \(.*main\.mjs:2:/,
    exit: 1,
    exception: { type: 'RangeError', message: 'out of bounds: ü' },
  },
  {
    fact: 'an error of a class of its own keeps its name',
    code: `
class QuotaError extends Error { name = 'QuotaError'; }
await Promise.resolve();
throw new QuotaError('nine of eight');`,
    stderr: /QuotaError: nine of eight/,
    exit: 1,
    exception: { type: 'QuotaError', message: 'nine of eight' },
  },
  {
    fact: 'a rejection that nobody handles is a thrown error',
    code: `setTimeout(() => Promise.reject(new TypeError('nobody')), 1);`,
    stderr: /TypeError: nobody/,
    exit: 1,
    exception: { type: 'TypeError', message: 'nobody' },
  },
  {
    fact: 'a syntax error says where',
    code: `const a = 1;\nconst a = 2;`,
    stderr: /SyntaxError: Identifier 'a' has already been declared/,
    exit: 1,
    exception: { type: 'SyntaxError', message: "Identifier 'a' has already been declared" },
  },
  {
    fact: 'unicode goes through code, arguments, environment and output unchanged',
    args: ['naïve', '日本語', '🙂'],
    env: { GREETING: 'šárka' },
    code: `console.log('Ωmega', ...process.argv.slice(2), process.env.GREETING, [...'🙂é'].length);`,
    stdout: 'Ωmega naïve 日本語 🙂 šárka 2\n',
  },
  {
    fact: 'a large output is counted to the byte, and its head and tail are kept',
    code: `
const line = 'x'.repeat(63) + '\\n';
for (let i = 0; i < 50_000; i++) if (!process.stdout.write(line)) await new Promise((r) => process.stdout.once('drain', r));`,
    stdoutBytes: 3_200_000,
  },
  {
    fact: 'a large output that is written at once is not cut by the end',
    code: `process.stdout.write('y'.repeat(900_000)); process.exitCode = 0;`,
    stdout: 'y'.repeat(900_000),
  },
  {
    fact: 'child processes run, with their output and their exit code',
    code: `
import { execFileSync, spawnSync } from 'node:child_process';
process.stdout.write(execFileSync('/bin/sh', ['-c', 'echo child $((6 * 7))']));
console.log(spawnSync('/bin/sh', ['-c', 'exit 9']).status);
console.log(spawnSync(process.execPath, ['-p', '1 + 1']).stdout.toString().trim());`,
    stdout: 'child 42\n9\n2\n',
  },
  {
    fact: 'JSON goes there and back',
    code: `
const value = { a: [1, 2.5, null, true], b: { c: 'é"\\\\\\n' }, d: 1e21 };
const text = JSON.stringify(value);
console.log(text, JSON.stringify(JSON.parse(text)) === text);`,
    stdout: '{"a":[1,2.5,null,true],"b":{"c":"é\\"\\\\\\n"},"d":1e+21} true\n',
  },
  {
    fact: 'regular expressions have names, look-behind and unicode properties',
    code: `
const { groups } = /(?<year>\\d{4})-(?<month>\\d\\d)/.exec('on 2026-11-21');
console.log(groups.year, groups.month, 'a1b22'.match(/(?<=[a-z])\\d+/g).join('|'), 'ÄbÇ'.replace(/\\p{Lu}/gu, '_'));`,
    stdout: '2026 11 1|22 _b_\n',
  },
  {
    fact: 'streams are piped and compressed',
    code: `
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
let size = 0;
await pipeline(Readable.from(Array.from({ length: 1000 }, (_, i) => \`line \${i}\\n\`)), createGzip(), createGunzip(), async (source) => {
  for await (const chunk of source) size += chunk.length;
});
console.log(size);`,
    stdout: '8890\n',
  },
  {
    fact: 'cryptography has hashes, keys and randomness',
    code: `
import { createHash, generateKeyPairSync, randomBytes, sign, verify } from 'node:crypto';
const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const text = Buffer.from('signed');
console.log(createHash('sha256').update('abc').digest('hex').slice(0, 16), verify(null, text, publicKey, sign(null, text, privateKey)), randomBytes(16).length);`,
    stdout: 'ba7816bf8f01cfea true 16\n',
  },
  {
    fact: 'worker threads share memory and answer',
    code: `
import { Worker } from 'node:worker_threads';
const shared = new Int32Array(new SharedArrayBuffer(4));
const work = () => new Promise((resolve, reject) => {
  const worker = new Worker("const { parentPort, workerData } = require('node:worker_threads'); for (let i = 0; i < 1000; i++) Atomics.add(workerData, 0, 1); parentPort.postMessage('done')", { eval: true, workerData: shared });
  worker.once('message', resolve).once('error', reject);
});
console.log(await Promise.all([work(), work()]), shared[0]);`,
    stdout: "[ 'done', 'done' ] 2000\n",
  },
  {
    fact: 'require works beside import',
    code: `
import { sep } from 'node:path';
const { basename } = require('node:path');
console.log(sep, basename('/a/b.txt'), typeof import.meta.url);`,
    stdout: '/ b.txt string\n',
  },
  {
    fact: 'a module of the workspace is imported',
    files: {
      'lib.mjs': 'export const twice = (n) => 2 * n;',
      'old.cjs': 'exports.thrice = (n) => 3 * n;',
    },
    code: `
import { twice } from './lib.mjs';
const { thrice } = await import('./old.cjs');
console.log(twice(21), thrice(14));`,
    stdout: '42 42\n',
  },
  {
    fact: '200 000 characters of code run',
    code: `const words = ${JSON.stringify('w'.repeat(199_900))};\nconsole.log(words.length);`,
    stdout: '199900\n',
  },
  {
    fact: 'dates, numbers and collation are those of the C locale and UTC',
    code: `
console.log(new Date(0).toISOString(), new Date(2026, 10, 21).getTimezoneOffset(), (1234567.891).toLocaleString('en-US'), ['b', 'a', 'C'].sort().join(''));`,
    stdout: '1970-01-01T00:00:00.000Z 0 1,234,567.891 Cab\n',
  },
];
