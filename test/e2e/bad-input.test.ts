import assert from 'node:assert/strict';
import { appendFileSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { listen } from '#core/http';
import { makePlace, type Place } from '../support/mesh.ts';
import { processesNaming } from '../support/processes.ts';

// What keeps the mesh from starting: said in words that name what to change, exit code 1, nothing left running.

interface Bad {
  readonly what: string;
  /** Spoils the place; returns further environment or arguments of `outrider up`. */
  readonly spoil: (place: Place, t: TestContext) => Promise<Given> | Given;
  readonly says: RegExp;
}
interface Given {
  readonly env?: Readonly<Record<string, string>>;
  readonly argv?: readonly string[];
}

const CASES: readonly Bad[] = [
  {
    what: 'an unknown key in a policy',
    spoil: ({ policies }) => append(policies, 'role-analyst.yaml', '    timout: 60s\n'),
    says: /role-analyst\.yaml:18:5: .*timout.*did you mean "?timeout"?/s,
  },
  {
    what: 'a directory of policies that is not there',
    spoil: ({ directory }) => ({ argv: ['--policies', join(directory, 'missing')] }),
    says: /missing.*(does not exist|cannot be read)/,
  },
  {
    what: 'an unknown key of a part in the configuration',
    spoil: (place) => config(place, 'proxy: {connectTimeuot: 3s}'),
    says: /proxy\.connectTimeuot.*connectTimeout/,
  },
  {
    what: 'an unknown section in the configuration',
    spoil: (place) => config(place, 'porxy: {}'),
    says: /unknown section "porxy"/,
  },
  {
    what: 'several wrong values, all named at once',
    spoil: (place) =>
      config(place, 'runner: {poolSize: many, capacity: 0}\ngateway: {maxBody: -1}'),
    says: /runner\.poolSize[^]*runner\.capacity[^]*gateway\.maxBody/,
  },
  {
    what: 'configuration that is no YAML',
    spoil: (place) => config(place, 'runner: [}'),
    says: /outrider\.yaml/,
  },
  {
    what: 'a configuration file that is not there',
    spoil: () => ({ argv: ['--config', 'nowhere.yaml'] }),
    says: /nowhere\.yaml cannot be read/,
  },
  {
    what: 'an unknown option',
    spoil: () => ({ argv: ['--polices', 'x'] }),
    says: /--polices.*--policies|--polices/,
  },
  {
    what: 'a variable of a key that does not exist',
    spoil: () => ({ env: { OUTRIDER_RUNNER_POOLSIZE: '3' } }),
    says: /OUTRIDER_RUNNER_POOLSIZE/,
  },
  {
    what: 'no bubblewrap',
    spoil: () => ({ env: { OUTRIDER_RUNNER_BUBBLEWRAP: '/nonexistent/bwrap' } }),
    says: /\/nonexistent\/bwrap is not installed: apt-get install bubblewrap/,
  },
  ...(['gateway', 'server', 'runner', 'proxy'] as const).map(
    (part): Bad => ({
      what: `the port of the ${part} is taken`,
      async spoil({ ports }, t) {
        const other = createServer();
        await listen(other, { kind: 'tcp', host: '127.0.0.1', port: ports[part] });
        t.after(() => other.close());
        return {};
      },
      says: /127\.0\.0\.1:\d+ is in use by another process/,
    }),
  ),
  {
    what: 'a runtime directory whose path is too long for a socket',
    spoil: ({ directory }) => ({
      env: { OUTRIDER_RUNTIME_DIR: join(directory, 'x'.repeat(100)) },
    }),
    says: /longer than \d+ bytes: choose a shorter runtime directory/,
  },
  {
    what: 'a state directory that is a file',
    spoil: ({ state }) => {
      writeFileSync(state, '');
      return {};
    },
    says: /state.*(directory|OUTRIDER_STATE_DIR)/,
  },
];

for (const { what, spoil, says } of CASES)
  test(`${what}: \`outrider up\` says so and ends with 1`, async (t) => {
    const place = await makePlace();
    t.after(() => place.remove());
    const { env = {}, argv = [] } = await spoil(place, t);
    const { code, stdout, stderr } = await place.outrider(['up', ...argv], { env });
    assert.equal(code, 1, stderr);
    assert.match(stderr, says);
    assert.equal(stdout, '');
    assert.doesNotMatch(stderr, /internal error|\n\s+at /, 'no stack, no shrug');
    assert.deepEqual(processesNaming(place.directory), []);
    assert.ok(!existsSync(join(place.runtime, 'proxy.sock')));
  });

test('the same place without the fault starts: the faults above are what kept it from it', async (t) => {
  const place = await makePlace();
  t.after(() => place.remove());
  const { argv } = config(place, 'proxy: {connectTimeout: 3s}');
  const child = place.start(['up', ...argv]);
  let said = '';
  for await (const chunk of child.stdout ?? []) {
    said += String(chunk);
    if (said.includes('Outrider is ready')) child.kill('SIGTERM');
  }
  assert.match(said, /Outrider is ready/);
});

test('`outrider exec` without a mesh says how to start one', async (t) => {
  const place = await makePlace();
  t.after(() => place.remove());
  const { code, stderr } = await place.outrider(['exec', '-'], { stdin: 'print(1)' });
  assert.equal(code, 125);
  assert.match(stderr, /is the mesh running\? start it with `npm start`/);
  assert.ok(stderr.includes(`unix:${place.runtime}/runner.sock`), 'where it looked');
  const strange = await place.outrider(['exec', '--address', 'there', '-'], { stdin: '' });
  assert.equal(strange.code, 2);
  assert.match(strange.stderr, /--address "there" is not an address/);
  assert.equal((await place.outrider(['token'])).code, 1);
});

const POLICIES: readonly (readonly [string, (policies: string) => void, RegExp])[] = [
  [
    'broken YAML',
    (policies) => append(policies, 'datasources.yaml', '\n  spec: [\n'),
    /datasources\.yaml:\d+:\d+: /,
  ],
  [
    'a rule for a datasource that nobody wrote',
    (policies) =>
      append(
        policies,
        'egress-analyst.yaml',
        '    - {id: more, datasource: prometheus/metrix, methods: [GET], paths: ["/**"]}\n',
      ),
    /egress-analyst\.yaml:\d+:\d+: .*prometheus\/metrix/,
  ],
  [
    'a ceiling that is gone',
    (policies) => rmSync(join(policies, 'boundary.yaml')),
    /datasources\.yaml:\d+:\d+: /,
  ],
];
for (const [what, spoil, says] of POLICIES)
  test(`${what}: \`outrider policy check\` names the place, and ends with 1`, async (t) => {
    const place = await makePlace();
    t.after(() => place.remove());
    assert.equal((await place.outrider(['policy', 'check', place.policies])).code, 0);
    spoil(place.policies);
    const { code, stdout, stderr } = await place.outrider(['policy', 'check', place.policies]);
    assert.equal(code, 1);
    assert.match(`${stdout}${stderr}`, says);
  });

function append(policies: string, file: string, text: string): Given {
  appendFileSync(join(policies, file), text);
  return {};
}

function config({ directory }: Place, text: string): { argv: readonly string[] } {
  const path = join(directory, 'outrider.yaml');
  writeFileSync(path, text);
  return { argv: ['--config', path] };
}
