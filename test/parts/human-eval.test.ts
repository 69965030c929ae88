import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { packageRoot } from '#core/package-root';
import { killedBy } from '../support/runner-client.ts';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';

/**
 * The 164 programs of HumanEval, each with its canonical solution and its own test, in a fresh sandbox each. The vectors are no
 * part of this project: OUTRIDER_VECTORS says where they are, by default ../shared/vectors. Without them this fails.
 */

const VECTORS = process.env['OUTRIDER_VECTORS'] ?? join(dirname(packageRoot), 'shared/vectors');
const FILE = join(VECTORS, 'human-eval/HumanEval.jsonl.gz');
const COUNT = 164;
const BACKENDS = ['bubblewrap', 'docker', 'gvisor'] as const;
/** A few at once: what takes time is making the sandboxes. */
const IN_FLIGHT = 4;
const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 256MiB, disk: 16MiB, concurrent: 16}
`;

interface Problem {
  readonly task_id: string;
  readonly prompt: string;
  readonly canonical_solution: string;
  readonly test: string;
  readonly entry_point: string;
}

let mesh: RunnerMesh;
let problems: readonly Problem[];
before(async () => {
  assert.ok(existsSync(FILE), 'the vectors are there: OUTRIDER_VECTORS names their directory');
  problems = gunzipSync(readFileSync(FILE))
    .toString('utf8')
    .split('\n')
    .filter(Boolean)
    .map((line): Problem => JSON.parse(line));
  assert.equal(problems.length, COUNT);
  mesh = await startRunnerMesh({ policies: POLICIES, argv: ['--backends', BACKENDS.join(',')] });
});
after(() => mesh?.stop());

describe(`${COUNT} programs, each with its test`, () => {
  for (const backend of BACKENDS)
    test(`pass on ${backend}`, async () => {
      const failures = await each(problems, (problem) => failureOf(problem, backend));
      assert.deepEqual(failures, []);
    });

  test('control: a wrong solution does not pass', async () => {
    const [problem] = problems;
    assert.ok(problem);
    const wrong = { ...problem, canonical_solution: '    return None\n' };
    assert.match((await failureOf(wrong, 'bubblewrap')) ?? '', /exit 1: AssertionError/);
  });
});

/** What is wrong with a program; undefined where its test passes. */
async function failureOf(problem: Problem, backend: string): Promise<string | undefined> {
  const { prompt, canonical_solution: solution, test: check, entry_point: entry } = problem;
  const code = `${prompt}${solution}\n${check}\ncheck(${entry})\nprint("passed")\n`;
  const ran = await mesh.client.run({ code, backend }).catch(String);
  if (typeof ran === 'string') return `${problem.task_id}: ${ran}`;
  const { end, stdout, started } = ran;
  assert.equal(started?.attestation?.backend, backend);
  if (killedBy(end) === 'exit' && end?.exitCode === 0 && stdout.toString().endsWith('passed\n'))
    return undefined;
  return `${problem.task_id}: ${killedBy(end)} ${end?.exitCode}: ${end?.exception?.type} ${end?.detail}`;
}

async function each<T>(
  items: readonly T[],
  run: (item: T) => Promise<string | undefined>,
): Promise<string[]> {
  const waiting = [...items];
  const found: string[] = [];
  const work = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      const failure = await run(item);
      if (failure !== undefined) found.push(failure);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return found;
}
