import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Circuit, type ExchangeEnd } from './circuit.ts';

function circuitAt0() {
  const clock = { now: 0 };
  const circuit = new Circuit(() => clock.now);
  const request = (end: ExchangeEnd) => {
    circuit.ended(end, circuit.begun());
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
  circuit.checked('sound');
  assert.equal(circuit.closed, true);
});

test('five failures in a row open it for 30 s; then one request at a time is let through', () => {
  const { clock, circuit, request } = circuitAt0();
  for (let n = 0; n < 4; n++) request('failed');
  assert.equal(circuit.closed, true);
  request('failed');
  assert.equal(circuit.closed, false);
  circuit.checked('sound');
  assert.equal(circuit.closed, false, 'a check does not see what calls fail at');
  clock.now = 29_999;
  assert.equal(circuit.closed, false);
  clock.now = 30_000;
  assert.equal(circuit.closed, true);
  const tried = circuit.begun();
  assert.equal(circuit.closed, false, 'one is on its way');
  circuit.ended('failed', tried);
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
  for (const health of ['unsound', 'silent', 'sound', 'silent', 'unsound'] as const)
    circuit.checked(health);
  assert.equal(circuit.down, false);
  circuit.checked('silent');
  assert.equal(circuit.down, true);
  assert.equal(circuit.closed, false);
  circuit.checked('sound');
  assert.equal(circuit.closed, true);
});

test('calls that one death took with it are one failure', () => {
  const { circuit, request } = circuitAt0();
  const inFlight = Array.from({ length: 20 }, () => circuit.begun());
  for (const one of inFlight) circuit.ended('failed', one);
  assert.equal(circuit.closed, true);
  for (let n = 0; n < 3; n++) request('failed');
  assert.equal(circuit.closed, true);
  request('failed');
  assert.equal(circuit.closed, false);
});

test('one that cannot be reached is back as soon as it can be: that opens no circuit', () => {
  const { circuit, request } = circuitAt0();
  for (let n = 0; n < 20; n++) request('unreachable');
  assert.equal(circuit.restMs, 0);
});

test('after the 30 s the head of an answer closes it, and an attempt without one keeps others away for 5 s', () => {
  const { clock, circuit, request } = circuitAt0();
  for (let n = 0; n < 5; n++) request('failed');
  circuit.heard(true);
  assert.equal(circuit.restMs, 30_000, 'of a request that was sent before');
  clock.now = 30_000;
  const stream = circuit.begun();
  assert.equal(circuit.restMs, 5_000);
  circuit.heard(false);
  assert.equal(circuit.restMs, 5_000, 'a failure, or a part of one');
  clock.now = 35_000;
  assert.equal(circuit.restMs, 0, 'it may take an hour');
  circuit.begun();
  circuit.heard(true);
  assert.equal(circuit.closed, true);
  circuit.ended('failed', stream);
  assert.equal(circuit.restMs, 30_000, 'what breaks off then is the next failure');
});
