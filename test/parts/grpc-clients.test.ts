import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { packageRoot } from '#core/package-root';
import { type RunnerMesh, startRunnerMesh } from '../support/runner-mesh.ts';

/** Programs of strangers: they have the published protos, a runner's socket and what their own registries have. */

const run = promisify(execFile);
const POLICIES = `
apiVersion: outrider/v1
kind: Role
metadata: {name: tester, owner: tests}
spec:
  members: [{issuer: "outrider:local"}]
  sandbox: {timeout: 20s, disk: 16MiB, memory: 256MiB, sessions: 2}
`;

let mesh: RunnerMesh;
let directory = '';
before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'outrider-clients-'));
  mesh = await startRunnerMesh({ policies: POLICIES, argv: ['--pool-size', '2'] });
});
after(async () => {
  rmSync(directory, { recursive: true, force: true });
  await mesh?.stop();
});

describe('D1: a client made from the protos alone', () => {
  test('in Python (grpcio): runs, streams in order, cancels, fetches files and artefacts, reflects', async () => {
    const home = join(directory, 'python');
    await run('python3', ['-m', 'venv', home]);
    const python = join(home, 'bin', 'python');
    const packages = ['grpcio', 'grpcio-tools', 'grpcio-reflection'];
    await run(python, [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      ...packages,
    ]);
    const generated = join(home, 'gen');
    mkdirSync(generated);
    const protos = ['exec', 'sandbox', 'file'].map((name) => `outrider/runner/v1/${name}.proto`);
    const out = [`--python_out=${generated}`, `--grpc_python_out=${generated}`];
    const include = join(packageRoot, 'proto');
    await run(python, ['-m', 'grpc_tools.protoc', `-I${include}`, ...out, ...protos]);
    const script = join(packageRoot, 'test/parts/grpc/client.py');
    const { stdout } = await run(python, [script, mesh.socket], {
      env: { PYTHONPATH: generated },
      timeout: 60_000,
    });
    assert.deepEqual(stdout.trim().split('\n'), [
      'runs_a_program',
      'streams_in_order',
      'cancels',
      'fetches_an_artefact',
      'writes_and_fetches_a_file',
      'learns_of_its_own_mistakes',
      'finds_the_services_by_reflection',
    ]);
  });

  test('in TypeScript (ts-proto): runs, fetches an artefact, streams in order, cancels', async () => {
    const home = join(directory, 'typescript');
    mkdirSync(home);
    writeFileSync(join(home, 'package.json'), '{"type": "module"}');
    for (const name of ['proto', 'buf.yaml'])
      cpSync(join(packageRoot, name), join(home, name), {
        recursive: true,
        filter: (path) => !path.endsWith('/gen'),
      });
    symlinkSync(join(packageRoot, 'node_modules'), join(home, 'node_modules'));
    writeFileSync(join(home, 'buf.gen.yaml'), BUF_GEN);
    await run(join(home, 'node_modules/.bin/buf'), ['generate'], { cwd: home });
    cpSync(join(packageRoot, 'test/parts/grpc/typescript-client.txt'), join(home, 'client.ts'));
    const { stdout } = await run(process.execPath, ['client.ts', mesh.socket], {
      cwd: home,
      timeout: 60_000,
    });
    assert.deepEqual(stdout.trim().split('\n'), [
      'ran 42 true',
      'fetched left',
      'cancelled 0,1,2 1',
    ]);
  });
});

describe('D4: the SDK in a package of its own', () => {
  test('ten lines run a program, under the same policy, limits and audit as any other call', async () => {
    const home = join(directory, 'embedding');
    mkdirSync(join(home, 'node_modules'), { recursive: true });
    writeFileSync(join(home, 'package.json'), '{"type": "module"}');
    symlinkSync(packageRoot, join(home, 'node_modules', 'outrider'));
    await run('npm', ['run', '-s', 'build'], { cwd: packageRoot });
    writeFileSync(join(home, 'embed.mjs'), EMBED);
    const { stdout } = await run(process.execPath, ['embed.mjs', mesh.socket], {
      cwd: home,
      timeout: 60_000,
    });
    assert.deepEqual(stdout.trim().split('\n'), ['42 exit 0', 'INVALID_REQUEST']);
    const audit = join(mesh.directory, 'state', 'audit', 'runner.jsonl');
    const records = readFileSync(audit, 'utf8').trim().split('\n');
    const exec = records.map((line) => JSON.parse(line)).find(({ purpose }) => purpose === 'sdk');
    assert.deepEqual([exec?.subject, exec?.role, exec?.killedBy], ['local', 'tester', 'exit']);
  });
});

const BUF_GEN = `version: v2
plugins:
  - local: ./node_modules/.bin/protoc-gen-ts_proto
    out: gen
    opt: [outputServices=grpc-js, importSuffix=.ts, forceLong=bigint, env=node, oneof=unions-value, outputIndex=false,
          enumsAsLiterals=true, removeEnumPrefix=true, unrecognizedEnum=false, useDate=true, exportCommonSymbols=false]
`;

const EMBED = `import { connect } from 'outrider/sdk';

const outrider = connect({ address: 'unix:' + process.argv[2] });
const { stdout, killedBy, exitCode } = await outrider.run('print(6 * 7)');
console.log(stdout.trim(), killedBy, exitCode);
try {
  await outrider.run('', { timeoutMs: 3_600_000 }); // more than the role gives
} catch (error) {
  console.log(error.metadata.get('outrider-error-code')[0]);
}
outrider.close();
`;
