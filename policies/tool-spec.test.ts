import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ArgumentRules, ToolSpec } from './document.ts';
import { allowsArguments, coversTool } from './tool-spec.ts';

const RULES: ArgumentRules = { database: ['sales', 'web-*'], limit: 100 };

const CALLS = [
  [{ database: 'sales', limit: 100 }, true, 'both as they must be'],
  [{ database: 'web-eu', limit: 100, note: 'x' }, true, 'others may be anything'],
  [{ database: 'web-', limit: 100 }, true, 'the rest may be empty'],
  [{ database: 'hr', limit: 100 }, false, 'another value'],
  [{ database: 'web', limit: 100 }, false, 'less than the beginning'],
  [{ database: 'web-*x', limit: 100 }, true, 'a star given is a letter'],
  [{ database: 'Sales', limit: 100 }, false, 'another case'],
  [{ database: 'sales' }, false, 'one is not given'],
  [{ database: 'sales', limit: '100' }, false, 'a text is no number'],
  [{ database: ['sales'], limit: 100 }, false, 'a list is none of its values'],
  [{ database: { toString: 'sales' }, limit: 100 }, false, 'nor is an object'],
  [{ database: 'sales', DATABASE: 'hr', limit: 100 }, false, 'given in another case, too'],
  [{ database: 'sales', limit: 100, '\u017flimit': 1 }, true, 'another name'],
  [{ database: 'sales', databaſe: 'hr', limit: 100 }, false, 'a long s is an s to some'],
  [{ DATABASE: 'sales', limit: 100 }, false, 'in another case alone'],
  [['sales', 100], false, 'a list of arguments'],
  [undefined, false, 'none'],
  [null, false, 'null'],
  [JSON.parse('{"__proto__":{"database":"sales","limit":100}}'), false, 'by a prototype'],
] as const;

for (const [given, allowed, why] of CALLS)
  test(`arguments ${allowed ? 'are' : 'are not'} what the rules ask for: ${why}`, () => {
    assert.equal(allowsArguments(RULES, given), allowed);
  });

test('a name that objects have is a name like any other', () => {
  const rules: ArgumentRules = JSON.parse('{"__proto__":"a","toString":true}');
  assert.equal(allowsArguments(rules, {}), false);
  assert.equal(allowsArguments(rules, JSON.parse('{"__proto__":"a","toString":true}')), true);
});

test('without rules whatever is given is right', () => {
  for (const given of [undefined, null, [], {}, { a: 1 }])
    assert.equal(allowsArguments({}, given), true);
});

const q = (rules: ArgumentRules): ToolSpec => ({ name: 'q', arguments: rules });
const COVERS: readonly (readonly [ToolSpec, ToolSpec, boolean])[] = [
  ['q', 'q', true],
  ['q', 'r', false],
  ['q', q({ a: 1 }), true],
  [q({ a: 1 }), 'q', false],
  [q({ a: 1 }), q({ a: 1 }), true],
  [q({ a: 1 }), q({ a: 1, b: 2 }), true],
  [q({ a: 1, b: 2 }), q({ a: 1 }), false],
  [q({ a: [1, 2] }), q({ a: 1 }), true],
  [q({ a: 1 }), q({ a: [1, 2] }), false],
  [q({ a: 'x*' }), q({ a: 'xy' }), true],
  [q({ a: 'x*' }), q({ a: 'xy*' }), true],
  [q({ a: 'xy*' }), q({ a: 'x*' }), false],
  [q({ a: 'x' }), q({ a: 'x*' }), false],
  [q({ a: '*' }), q({ a: 1 }), false],
];
for (const [wide, narrow, expected] of COVERS)
  test(`${JSON.stringify(wide)} ${expected ? 'covers' : 'does not cover'} ${JSON.stringify(narrow)}`, () => {
    assert.equal(coversTool(wide, narrow), expected);
  });
