import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { before, describe, test } from 'node:test';
import { outriderArgv } from '#core/testing/outrider-argv';
import { type Ended, ended } from '../support/mesh.ts';

// The whole battery as a stranger runs it, on every backend. One that cannot run here is a failure, not a skip.

const BACKENDS = ['bubblewrap', 'docker', 'gvisor'] as const;
/** More than seven minutes have been seen, on a slow machine. */
const WITHIN_MS = 1_080_000;

interface Told {
  readonly attacks: readonly {
    readonly id: number;
    readonly name: string;
    readonly control: { readonly result: string; readonly detail: string };
    readonly targets: Readonly<
      Record<string, { readonly result: string; readonly detail: string }>
    >;
  }[];
}

function redteam(...options: readonly string[]): Promise<Ended> {
  const argv = [...outriderArgv(), 'redteam'];
  const child = spawn(process.execPath, [...argv, ...options], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return ended(child, WITHIN_MS);
}

describe('the battery of attacks', () => {
  let run: Ended;
  let told: Told;
  before(async () => {
    run = await redteam('--backend', BACKENDS.join(','), '--json');
    assert.notEqual(run.stdout, '', run.stderr);
    told = JSON.parse(run.stdout);
  });

  test('has at least 60 attacks of the list with a control that works here', () => {
    const proven = told.attacks.filter(({ id, control }) => id <= 75 && control.result === 'works');
    assert.ok(proven.length >= 60, `${proven.length}`);
  });

  test('every control works, or the host lacks the thing', () => {
    const failed = told.attacks.filter(({ control }) => control.result === 'failed');
    assert.deepEqual(failed, []);
  });

  for (const backend of BACKENDS)
    test(`E1: nothing escapes from ${backend}, and at least 60 attacks were refused there`, () => {
      const verdicts = told.attacks.map(({ id, name, targets }) => ({
        id,
        name,
        ...targets[backend],
      }));
      const open = verdicts.filter(({ result }) => result !== 'refused' && result !== 'n/a');
      assert.deepEqual(open, []);
      assert.ok(verdicts.filter(({ result }) => result === 'refused').length >= 60);
    });

  test('it says so by its exit code', () => assert.equal(run.code, 0, run.stderr));
});

describe('beside plain docker run', () => {
  /** What docker's own defaults let a program do, and what they do not. */
  const OPEN = [3, 13, 41];
  const SHUT = [25, 27, 40];
  let run: Ended;
  let told: Told;
  before(async () => {
    const only = [...OPEN, ...SHUT].join(',');
    const compared = ['--docker-run', 'outrider-sandbox:latest', '--only', only];
    run = await redteam('--backend', 'bubblewrap', ...compared, '--json');
    assert.notEqual(run.stdout, '', run.stderr);
    told = JSON.parse(run.stdout);
  });

  for (const [wanted, ids] of [
    ['ESCAPED', OPEN],
    ['refused', SHUT],
  ] as const)
    test(`the same attacks are ${wanted} there by what the program itself said`, () => {
      const seen = told.attacks.filter(({ id }) => ids.includes(id));
      assert.equal(seen.length, ids.length);
      for (const { name, targets } of seen) {
        const { result, detail } = targets['docker run'] ?? {};
        assert.equal(result, wanted, `${name}: ${detail}`);
        assert.doesNotMatch(detail ?? '', /did not say/, name);
        assert.equal(targets['bubblewrap']?.result, 'refused', name);
      }
    });

  test('and what escapes there is no fault of ours: the exit code is that of our own backends', () =>
    assert.equal(run.code, 0, run.stderr));
});
