import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Demand } from './demand.ts';

test('a steady stream needs as many as arrive while one is replaced', () => {
  const demand = new Demand(100);
  for (let at = 0; at < 5_000; at += 20) demand.claimed(at); // 50 a second
  assert.equal(demand.stock(5_000), 5);
});

test('slower replacement needs more in stock, faster one fewer', () => {
  const [slow, fast] = [new Demand(100), new Demand(100)];
  for (let n = 0; n < 30; n++) {
    slow.made(400);
    fast.made(15);
  }
  for (let at = 0; at < 5_000; at += 20) for (const demand of [slow, fast]) demand.claimed(at);
  assert.equal(slow.stock(5_000), 20);
  assert.equal(fast.stock(5_000), 1);
});

test('the time for which replacing is put off counts, too', () => {
  const demand = new Demand(100);
  for (let n = 0; n < 40; n++) demand.held(250);
  for (let at = 0; at < 5_000; at += 50) demand.claimed(at); // 20 a second
  assert.equal(demand.stock(5_000), 7);
});

test('a rush is remembered for a while, and then forgotten', () => {
  const demand = new Demand(100);
  for (let n = 0; n < 8; n++) demand.claimed(n);
  assert.equal(demand.stock(10), 8);
  assert.equal(demand.stock(30_007), 4);
  assert.equal(demand.stock(300_000), 0);
});

test('rare single claims need one, and long silence none', () => {
  const demand = new Demand(100);
  for (let at = 0; at < 100_000; at += 10_000) demand.claimed(at);
  assert.equal(demand.stock(90_000), 1);
  assert.equal(demand.stock(200_000), 0);
});
