import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AllowDecision, Target } from '#policies';
import type { Caller } from '../authority.ts';
import { type ConfiguredLimits, limitsOf } from './limits-of.ts';

const RATE = { rate: { count: 60, perMs: 60_000 }, burst: 10 };
const ALL: ConfiguredLimits = {
  host: RATE,
  credential: RATE,
  principal: RATE,
  datasource: undefined,
  role: undefined,
  principalBytes: undefined,
  datasourceBytes: undefined,
};
const caller = (subject: string) =>
  // Of a caller nothing else is looked at.
  ({
    role: 'analyst',
    identity: { principal: { issuer: 'i', tenant: 't', subject } },
  }) as Caller;
const host = (text: string) => ({ kind: 'host', host: { text, ip: null } }) as Target;
const LIMITS = { rate: RATE.rate, burst: 5 };
const decision = (change: Partial<AllowDecision> = {}): AllowDecision => ({
  verdict: 'allow',
  rule: 'r',
  policy: 'p',
  credential: null,
  datasource: null,
  limits: LIMITS,
  guard: null,
  protocols: ['http1'],
  intercept: false,
  ...change,
});

test('the limits of one caller under one rule are made once', () => {
  const ann = caller('ann');
  const first = limitsOf(ALL, ann, host('a.example'), decision());
  assert.deepEqual(
    first.map(({ dimension }) => dimension),
    ['rule', 'principal', 'host'],
  );
  assert.equal(limitsOf(ALL, ann, host('a.example'), decision()), first);
});

const ann = caller('ann');
const others: readonly (readonly [string, () => ReturnType<typeof limitsOf>])[] = [
  ['another caller', () => limitsOf(ALL, caller('bob'), host('a.example'), decision())],
  ['another role', () => limitsOf(ALL, { ...ann, role: 'other' }, host('a.example'), decision())],
  ['another host', () => limitsOf(ALL, ann, host('b.example'), decision())],
  ['another rule', () => limitsOf(ALL, ann, host('a.example'), decision({ rule: 's' }))],
  ['another policy', () => limitsOf(ALL, ann, host('a.example'), decision({ policy: 'q' }))],
  ['a credential', () => limitsOf(ALL, ann, host('a.example'), decision({ credential: 'c' }))],
];
for (const [what, ofOther] of others)
  test(`${what} has other limits, also right behind`, () => {
    const before = limitsOf(ALL, ann, host('a.example'), decision()).map(({ key }) => key);
    assert.notDeepEqual(
      ofOther().map(({ key }) => key),
      before,
    );
    assert.deepEqual(
      limitsOf(ALL, ann, host('a.example'), decision()).map(({ key }) => key),
      before,
    );
  });
