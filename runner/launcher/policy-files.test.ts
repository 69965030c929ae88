import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutriderError } from '#core/errors';
import type { PolicyFile } from '#policystore';
import { launcherFiles } from './policy-files.ts';
import { PolicyPages } from './policy-pages.ts';
import { type Ask, parseAsk } from './protocol.ts';

const KIB = 1_024;

/** Both ends, with the pipe's bound on a line between them. */
function joined(read: () => Promise<PolicyFile[]>, signature = () => Promise.resolve('')) {
  const pages = new PolicyPages({ signature, read });
  const lines: number[] = [];
  const ask = async <T>(verb: Ask): Promise<T> => {
    const asked = parseAsk(JSON.stringify({ id: 1, ...verb }));
    const answer =
      asked.verb === 'policySignature'
        ? await pages.signature()
        : asked.verb === 'readPolicies'
          ? await pages.read()
          : pages.page(asked.verb === 'policyPage' ? asked.page : -1);
    const line = JSON.stringify({ id: 1, ok: answer });
    lines.push(line.length);
    const { ok }: { ok: T } = JSON.parse(line);
    return ok;
  };
  return { files: launcherFiles(ask), pages, lines };
}

const sets: readonly (readonly [string, PolicyFile[]])[] = [
  ['no file', []],
  ['an empty file', [{ name: 'a.yaml', text: '' }]],
  [
    'letters of every width, across the ends of pages',
    [{ name: 'ä/€.yaml', text: 'aä€𝄞'.repeat(40 * KIB) }],
  ],
  ['what JSON writes at length', [{ name: 'a.yaml', text: '\u0000\u001f"\\\n'.repeat(20 * KIB) }]],
  [
    'many files',
    Array.from({ length: 3_000 }, (_, at) => ({ name: `${at}.yaml`, text: `n: ${at}` })),
  ],
];
for (const [what, files] of sets)
  test(`${what}: comes through as it is, in lines that the pipe takes`, async () => {
    const { files: through, lines } = joined(() => Promise.resolve(files));
    assert.deepEqual(await through.read(), files);
    assert.ok(Math.max(...lines) < 64 * KIB);
  });

test('a signature of any length comes through short, and differs where the files do', async () => {
  let signature = 'x'.repeat(200 * KIB);
  const { files } = joined(
    () => Promise.resolve([]),
    () => Promise.resolve(signature),
  );
  const before = await files.signature();
  assert.match(before, /^[0-9a-f]{64}$/);
  assert.equal(await files.signature(), before);
  signature += 'x';
  assert.notEqual(await files.signature(), before);
});

test('why they cannot be read comes through', async () => {
  const { files } = joined(() => Promise.reject(new OutriderError('POLICY_INVALID', 'closed')));
  await assert.rejects(files.read(), { code: 'POLICY_INVALID', message: 'closed' });
});

test('a page that there is not is refused, and so is one that was not read before', async () => {
  const { pages } = joined(() => Promise.resolve([]));
  assert.throws(() => pages.page(0), { code: 'INVALID_REQUEST' });
  await pages.read();
  assert.throws(() => pages.page(1), { code: 'INVALID_REQUEST' });
  assert.ok(pages.page(0).content);
});
