import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuditWriters } from './audit-writers.ts';

const head = (writer: string, seq = 0) => ({ writer, seq, hash: `${writer}-${seq}` });

test('the last record of a writer is known, and whether its chain has ended', () => {
  const writers = new AuditWriters();
  writers.add(head('a'), 'request');
  writers.add(head('a', 1), 'request');
  assert.deepEqual(writers.get('a'), { head: head('a', 1), ended: false });
  writers.add(head('a', 2), 'end');
  assert.deepEqual(writers.get('a'), { head: head('a', 2), ended: true });
  writers.add(head('a', 3), 'checkpoint');
  assert.deepEqual(writers.get('a'), { head: head('a', 3), ended: true });
  assert.equal(writers.get('b'), undefined);
  assert.equal(writers.size, 1);
});

test('of too many, chains that ended are forgotten first, the oldest before the others', () => {
  const writers = new AuditWriters(3);
  const known = () => ['a', 'b', 'c', 'd', 'e', 'f'].filter((name) => writers.get(name));
  writers.add(head('a'), 'request');
  writers.add(head('b'), 'end');
  writers.add(head('c'), 'end');
  assert.deepEqual(known(), ['a', 'b', 'c']);
  writers.add(head('d'), 'request');
  assert.deepEqual(known(), ['a', 'c', 'd']);
  writers.add(head('e'), 'request');
  assert.deepEqual(known(), ['a', 'd', 'e']);
  writers.add(head('a', 1), 'request');
  writers.add(head('f'), 'request');
  assert.deepEqual(known(), ['a', 'e', 'f'], 'a wrote after d');
});
