import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { type Attack, program, refused } from './attack.ts';
import { onHost } from './attacks/controls.ts';
import { ATTACKS } from './attacks/index.ts';
import { type Row, runBattery } from './battery.ts';
import { Ground } from './ground.ts';
import { countOf, exitCodeOf } from './report.ts';
import type { Target } from './target.ts';
import { weakTarget } from './weak.ts';

let ground: Ground;
beforeEach(() => {
  ground = new Ground();
});
afterEach(() => ground.end());

/** Isolates nothing: what a battery is for is to see that. */
const careless = (): Target => weakTarget(ground, { name: 'careless' });
/** Refuses whatever it is asked to do, and goes on to run what is harmless. */
const strict = (): Target => ({
  ...careless(),
  name: 'strict',
  run: () => careless().run({ code: 'refused("no")' }),
});

const attack = (over: Partial<Attack>): Attack => ({
  id: 1,
  group: 'kernel',
  name: 'an attack',
  attempt: program('escaped("it worked")'),
  control: onHost('no protection'),
  ...over,
});
const only = async (given: Partial<Attack>, target: Target): Promise<Row> => {
  const [row] = await runBattery({ attacks: [attack(given)], targets: [target], rig: undefined });
  assert.ok(row);
  return row;
};

describe('on a target without isolation, it escapes and the battery fails:', () => {
  // Some of each group that need neither root nor a runner.
  const ids = [2, 4, 6, 7, 13, 45, 46, 47, 48, 49, 51, 52, 57, 58, 61, 67, 71, 72];
  for (const one of ATTACKS.filter(({ id }) => ids.includes(id)))
    test(`${one.id} ${one.name}`, async () => {
      const rows = await runBattery({ attacks: [one], targets: [careless()], rig: undefined });
      assert.equal(rows[0]?.verdicts.get('careless')?.result, 'ESCAPED');
      const count = countOf(rows, { counted: ['careless'] });
      assert.deepEqual(count, { refused: 0, escaped: 1, withoutControl: 0, notApplicable: 0 });
      assert.equal(exitCodeOf(count), 1);
    });
});

test('control: a target that refuses is told as refusing', async () => {
  const { verdicts } = await only({}, strict());
  assert.deepEqual(verdicts.get('strict'), { result: 'refused', detail: 'no' });
});

test('an attack whose control does not work proves nothing', async () => {
  const attempt = () => Promise.resolve(refused('always'));
  const { proof, verdicts } = await only({ attempt }, careless());
  assert.equal(proof.result, 'failed');
  assert.equal(verdicts.get('careless')?.result, 'control-failed');
});

test('an attack that breaks is an escape on the target and no proof on the control', async () => {
  const { proof, verdicts } = await only({ attempt: program('no such name') }, careless());
  assert.equal(proof.result, 'failed');
  assert.equal(verdicts.get('careless')?.result, 'ESCAPED');
});

test('harm to the host is an escape, whatever the program says', async () => {
  const { verdicts } = await only(
    {
      stage: (place) => {
        place.params['secret'] = place.secret();
      },
      attempt: program('open(P["secret"], "w").write("x")\nrefused("nothing happened")'),
    },
    careless(),
  );
  assert.deepEqual(verdicts.get('careless'), {
    result: 'ESCAPED',
    detail: 'secret of the host was changed',
  });
});

test('nothing of an attempt is left on the host', async () => {
  let directory = '';
  await only(
    {
      stage: (place) => {
        directory = place.directory;
      },
      attempt: program('if os.fork() == 0:\n    linger(60)\nescaped("left one behind")', {
        timeoutMs: 200,
      }),
    },
    careless(),
  );
  assert.ok(directory !== '' && !existsSync(directory));
});

describe('the battery', () => {
  test('has at least 60 of the 75 attacks of the list, each number once', () => {
    const listed = ATTACKS.map(({ id }) => id).filter((id) => id <= 75);
    assert.equal(new Set(ATTACKS.map(({ id }) => id)).size, ATTACKS.length);
    assert.ok(listed.length >= 60, `${listed.length}`);
  });

  test('what is excused by a kernel of its own is judged by the host', () => {
    for (const { id, virtual } of ATTACKS)
      if (virtual !== undefined) assert.ok(virtual.length > 10, `${id} says why`);
  });
});
