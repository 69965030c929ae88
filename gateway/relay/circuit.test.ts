import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Circuit, type ExchangeEnd } from './circuit.ts';

function circuitAt0() {
  const clock = { now: 0 };
  const circuit = new Circuit(() => clock.now);
  const request = (end: ExchangeEnd) => {
    circuit.begun();
    circuit.ended(end);
  };
  return { clock, circuit, request };
}

test('a server that could not be reached is out for 5 s, or until a check finds it', () => {
  const { clock, circuit, request } = circuitAt0();
  request('unreachable');
  assert.equal(circuit.closed, false);
  clock.now = 5_000;
  assert.equal(circuit.closed, true);
  request('unreachable');
  circuit.checked(true);
  assert.equal(circuit.closed, true);
});

test('five failures in a row open it for 30 s; then one request at a time is let through', () => {
  const { clock, circuit, request } = circuitAt0();
  for (let n = 0; n < 4; n++) request('failed');
  assert.equal(circuit.closed, true);
  request('failed');
  assert.equal(circuit.closed, false);
  circuit.checked(true);
  assert.equal(circuit.closed, false, 'a check does not see what calls fail at');
  clock.now = 29_999;
  assert.equal(circuit.closed, false);
  clock.now = 30_000;
  assert.equal(circuit.closed, true);
  circuit.begun();
  assert.equal(circuit.closed, false, 'one is on its way');
  circuit.ended('failed');
  assert.equal(circuit.closed, false, 'and failed');
  clock.now = 60_000;
  request('answered');
  assert.equal(circuit.closed, true);
  circuit.begun();
  assert.equal(circuit.closed, true, 'any number again');
});

test('an answer in between starts the count again, and a client that leaves counts for nothing', () => {
  const { circuit, request } = circuitAt0();
  for (let n = 0; n < 4; n++) request('failed');
  request('answered');
  for (let n = 0; n < 4; n++) request('failed');
  circuit.begun();
  circuit.abandoned();
  assert.equal(circuit.closed, true);
});

test('three failed checks in a row take it out, one good one brings it back', () => {
  const { circuit } = circuitAt0();
  for (const sound of [false, false, true, false, false]) circuit.checked(sound);
  assert.equal(circuit.down, false);
  circuit.checked(false);
  assert.equal(circuit.down, true);
  assert.equal(circuit.closed, false);
  circuit.checked(true);
  assert.equal(circuit.closed, true);
});
