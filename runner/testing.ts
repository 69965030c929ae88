import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Metadata } from '@grpc/grpc-js';
import type { ExecResponse, ExecSpec, RunResponse } from '#proto';
import { call, type ExecStream, ISSUER, openExec, type Rig, startRig } from './test-rig.ts';

/** For tests of the services alone: one runner for the tests of a file, and the shortest ways to ask it for something. */

export const MIB = 2 ** 20;
/** Up and there until it is ended. */
export const FOREVER = 'import time\nprint("up", flush=True)\nwhile True: time.sleep(1)';

/** Two roles: alice, bob and the local principal have one, `both` has both. */
export const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members:
    - {issuer: "${ISSUER}", subject: alice}
    - {issuer: "${ISSUER}", subject: bob}
    - {issuer: "${ISSUER}", subject: both}
    - {issuer: "outrider:local"}
  sandbox: {timeout: 5m, output: 200MiB, disk: 8MiB, memory: 256MiB, sessions: 2, concurrent: 3}
---
apiVersion: outrider/v1
kind: Role
metadata: {name: other, owner: tests}
spec:
  members:
    - {issuer: "${ISSUER}", subject: both}
  sandbox: {timeout: 5m, disk: 8MiB, memory: 256MiB}
`;

export interface ServiceRig {
  readonly rig: Rig;
  readonly alice: Metadata;
  readonly bob: Metadata;
  readonly run: (spec: ExecSpec | undefined, who?: Metadata) => Promise<RunResponse>;
  readonly open: (spec: ExecSpec, who?: Metadata, options?: { deadline?: number }) => ExecStream;
  /** Waits until nothing runs any more: a caller that left is told before its program's end is accounted for. */
  readonly idle: () => Promise<void>;
}

/** A runner from before the first of a file's tests until after the last; what is used of it must be read while they run. */
export function serviceRig(options: readonly string[] = []): ServiceRig {
  let rig: Rig | undefined;
  let alice: Metadata | undefined;
  let bob: Metadata | undefined;
  const started = <T>(value: T | undefined): T => {
    assert.ok(value, 'the rig is started');
    return value;
  };
  before(async () => {
    const capacity = ['--capacity', '16', '--pool-size', '2', '--drain-timeout', '3s'];
    rig = await startRig(POLICIES, [...capacity, ...options]);
    alice = await rig.as('alice');
    bob = await rig.as('bob');
  });
  after(() => rig?.stop());
  return {
    get rig() {
      return started(rig);
    },
    get alice() {
      return started(alice);
    },
    get bob() {
      return started(bob);
    },
    run: (spec, who = started(alice)) => call(started(rig).execs, 'run', { spec }, who),
    open: (spec, who = started(alice), at = {}) => openExec(started(rig).execs, who, spec, at),
    async idle() {
      const running = async () =>
        (await call(started(rig).boxes, 'getCapabilities', {}, started(alice))).load?.running;
      await until(async () => (await running()) === 0);
    },
  };
}

export const session = (name: string, mustExist = false): Partial<ExecSpec> => ({
  target: { $case: 'session', value: { name, mustExist, create: undefined } },
});
export const inside = (id: string): Partial<ExecSpec> => ({
  target: { $case: 'sandboxId', value: id },
});

type Response = NonNullable<ExecResponse['response']>;

export const textOf = (responses: readonly Response[], stream: 'stdout' | 'stderr'): string =>
  responses.map((one) => (one.$case === stream ? one.value.data.toString() : '')).join('');

/** The end of an exec: the one, and the last. */
export const endOf = (responses: readonly Response[]) => {
  const ends = responses.flatMap((one) => (one.$case === 'end' ? [one.value] : []));
  assert.equal(ends.length, 1, 'an exec ends once');
  assert.equal(responses.at(-1)?.$case, 'end', 'and last');
  return ends[0];
};

/** The start of a stream's exec. */
export const startOf = async (stream: ExecStream) => {
  const first = await stream.next();
  assert.ok(first?.$case === 'started', JSON.stringify(first?.$case));
  return first.value;
};

/** Waits until the condition holds, a minute at most: less than any program here runs by itself. */
export const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + 60_000;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, 'it did not come about');
    await sleep(10);
  }
};
