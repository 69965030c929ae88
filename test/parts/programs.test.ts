import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ExecEnd, RunResponse } from '#proto';
import { killedBy } from '../support/runner-client.ts';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';
import { JAVASCRIPT } from './programs/javascript.ts';
import type { Program } from './programs/program.ts';
import { SHELL } from './programs/shell.ts';
import { TYPESCRIPT } from './programs/typescript.ts';

/** The same programs, with the same results, whatever isolates them. A backend that cannot run here fails. */

const BACKENDS = ['bubblewrap', 'docker', 'gvisor'] as const;
const TABLES = [
  ['javascript', 'node', JAVASCRIPT],
  ['typescript', 'node', TYPESCRIPT],
  ['shell', 'shell', SHELL],
  ['shell', 'node', SHELL.slice(0, 3)],
] as const;
const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 60s, memory: 512MiB, disk: 64MiB, profiles: [node, shell], concurrent: 16, output: 1MiB}
`;

let mesh: RunnerMesh;
before(async () => {
  mesh = await startRunnerMesh({
    policies: POLICIES,
    argv: ['--backends', BACKENDS.join(',')],
  });
});
after(() => mesh.stop());

for (const backend of BACKENDS)
  describe(backend, { concurrency: 2 }, () => {
    for (const [language, profile, programs] of TABLES)
      for (const program of programs)
        test(`${language} (${profile}): ${program.fact}`, async () => {
          const { fact: _, stdin, ...ask } = program;
          const response = await mesh.client.run({
            ...ask,
            language,
            profile,
            backend,
            ...(stdin === undefined ? {} : { stdin }),
          });
          assert.equal(response.started?.attestation?.backend, backend);
          assertEnd(program, response);
          assertOutput(program, response);
        });
  });

function assertEnd(program: Program, { end, stderr }: RunResponse): void {
  const { exit = 0, signal, exception, artefacts = {} } = program;
  const [kind, code] = signal === undefined ? ['exit', exit] : ['signal', undefined];
  assert.equal(killedBy(end), kind, `${end?.detail}\n${stderr.toString()}`);
  assert.equal(end?.exitCode, code, stderr.toString());
  assert.equal(end?.signal, signal ?? '');
  assert.equal(end?.exception?.type, exception?.type);
  assert.equal(end?.exception?.message, exception?.message);
  if (exception) assert.ok(end?.exception?.traceback.includes(exception.message), 'the traceback');
  assert.deepEqual(artefactsOf(end), { ...artefacts });
}

function assertOutput(program: Program, { stdout, stderr, end }: RunResponse): void {
  const { stdoutBytes, exit = 0 } = program;
  if (program.stdout !== undefined) assert.equal(stdout.toString(), program.stdout);
  if (program.stderr) assert.match(stderr.toString(), program.stderr);
  else if (exit === 0) assert.equal(stderr.toString(), '');
  if (stdoutBytes === undefined) return;
  assert.equal(Number(end?.stdout?.total), stdoutBytes);
  assert.equal(Number(end?.stdout?.captured) + Number(end?.stdout?.dropped), stdoutBytes);
  assert.match(stdout.toString(), /\[\.\.\. \d+ bytes dropped \.\.\.\]/);
}

function artefactsOf(end: ExecEnd | undefined): Record<string, string> {
  return Object.fromEntries(
    (end?.artefacts ?? []).map(({ path, content }) => [path, content.toString()]),
  );
}
