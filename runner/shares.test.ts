import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Shares } from './shares.ts';

const who = (subject: string, tenant = 't') => ({ issuer: 'i', tenant, subject });

/** What goes, one after another, until nothing is left. */
function order(shares: Shares<string>): string {
  const gone: string[] = [];
  for (let { first } = shares; first !== undefined; { first } = shares) {
    gone.push(first);
    assert.ok(shares.delete(first));
  }
  assert.equal(shares.bytes, 0);
  return gone.join(' ');
}

describe('what goes first is', () => {
  const cases: readonly (readonly [
    string,
    readonly (readonly [item: string, subject: string, tenant: string, bytes: number])[],
    string,
  ])[] = [
    [
      "an owner's oldest",
      [
        ['a1', 'a', 't', 1],
        ['a2', 'a', 't', 1],
      ],
      'a1 a2',
    ],
    [
      'of the owner who has the most, though another has older',
      [
        ['b1', 'b', 't', 3],
        ['a1', 'a', 't', 4],
        ['a2', 'a', 't', 4],
        ['a3', 'a', 't', 1],
      ],
      'a1 a2 b1 a3',
    ],
    [
      'of the tenant that has the most, though an owner of another has more',
      [
        ['v1', 'victim', 'small', 5],
        ['x1', 'x', 'large', 3],
        ['y1', 'y', 'large', 3],
      ],
      'x1 v1 y1',
    ],
    [
      'as much as it weighs, not as many',
      [
        ['a1', 'a', 't', 1],
        ['a2', 'a', 't', 1],
        ['b1', 'b', 't', 9],
      ],
      'b1 a1 a2',
    ],
  ];
  for (const [what, items, wanted] of cases)
    test(what, () => {
      const shares = new Shares<string>();
      for (const [item, subject, tenant, bytes] of items)
        shares.add(item, who(subject, tenant), bytes);
      assert.equal(order(shares), wanted);
    });
});

test('the same subject in two tenants is two owners, and what is in once counts once', () => {
  const shares = new Shares<string>();
  shares.add('one', who('a', 't'), 2);
  shares.add('one', who('a', 'u'), 9);
  shares.add('two', who('a', 'u'), 1);
  assert.deepEqual([shares.bytes, shares.first, shares.has('two')], [3, 'one', true]);
  assert.deepEqual([shares.delete('none'), shares.delete('one'), shares.bytes], [false, true, 1]);
});
