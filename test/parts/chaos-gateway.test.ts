import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TRIALS } from '../chaos/gateway/trials.ts';

// A share of `npm run chaos -- gateway`, which has 200 sessions.
const SESSIONS = 40;

for (const [name, trial] of Object.entries(TRIALS))
  test(`${name}: nothing is lost but what was in flight there`, async (t) => {
    const { calls, inFlight, problems } = await trial({ sessions: SESSIONS, built: false });
    t.diagnostic(`${calls} calls, ${inFlight} lost in flight`);
    assert.deepEqual(problems, []);
    assert.ok(calls >= SESSIONS, `${calls} calls were made`);
    assert.ok(inFlight < SESSIONS, `${inFlight} of ${SESSIONS} were in flight there`);
  });
