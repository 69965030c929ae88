import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { loadDirectory } from '#policystore';
import { type Result, runCase, runSent } from '../battery/battery.ts';
import { type Case, CaseUnusable, readCases } from '../battery/case.ts';
import { runAll } from '../battery/lanes.ts';
import { startPlainStage } from '../battery/plain-stage.ts';
import { type Stage, startWorld, type World } from '../battery/world.ts';
import { executionToken } from '../support/plays-sidecar.ts';

// What `npm run battery` does, and that it can fail. Needs root, iproute2, nsenter, openssl, git.

const FILES = ['cases.json', 'more-cases.json', 'fuzz-cases.json'].map((name) =>
  join(import.meta.dirname, '../battery', name),
);
const [CASES = [], ...MORE] = FILES.map(readCases);

function caseOf(id: string): Case {
  const one = CASES.find((each) => each.id === id);
  assert.ok(one, `${id} is in the file`);
  return one;
}

function told({ id, problems }: Result): string {
  return `${id}: ${problems.join('; ')}`;
}

describe('every case, sent to the mesh as it runs', () => {
  const results = new Map<string, Result>();
  before(async () => {
    for (const one of await runAll([...CASES, ...MORE.flat()], () => {})) results.set(one.id, one);
  });

  for (const [what, cases] of [
    ['every case of the file', CASES],
    ['variations of them, and what fuzzing found,', MORE.flat()],
  ] as const)
    test(`E2 E3 E4 E8: ${what} passes by every way in`, (t) => {
      const own = cases.flatMap(({ id }) => results.get(id) ?? []);
      const of = (state: Result['state']) => own.filter((one) => one.state === state);
      t.diagnostic(`${of('passed').length} passed`);
      assert.deepEqual(of('failed').map(told), []);
      assert.equal(of('passed').length, cases.length);
    });
});

describe('a case that expects what does not happen has failed', () => {
  let world: World;
  before(async () => {
    world = await startWorld();
  });
  after(() => world?.stop());

  const WRONG: readonly (readonly [
    id: string,
    expect: Case['expect'],
    noticed: RegExp,
    category?: string,
  ])[] = [
    ['H007', { outcome: 'allow' }, /expected to be allowed, seen deny/],
    ['H001', { outcome: 'deny' }, /expected a refusal, seen allow/],
    ['H007', { outcome: 'deny', status: [400] }, /expected status 400, seen 403/],
    ['H007', { outcome: 'deny', audit_reason: 'jwt_none' }, /expected the reason jwt_none/],
    [
      'H001',
      { outcome: 'allow', upstream_connections: 0 },
      /expected 0 connections upstream, seen 1/,
    ],
    ['H001', { outcome: 'allow', dns_queries: 0 }, /expected 0 DNS queries, seen 1/],
    ['X004', { outcome: 'allow', credentials_sent: 0 }, /expected 0 credentials sent, seen 1/],
    ['T013', { outcome: 'allow' }, /expected to be allowed, seen close/],
    ['J001', { outcome: 'allow' }, /expected to be allowed, seen deny 401/],
    ['J028', { outcome: 'deny', status: [403] }, /expected status 403, seen 401/],
    ['J033', { outcome: 'deny', status: [401] }, /expected status 401, seen 503/],
    ['K013', { outcome: 'allow' }, /expected to be allowed, seen deny 50[23]/],
    ['Q011', { outcome: 'allow' }, /expected to be allowed, seen deny 403/],
    ['Z002', { outcome: 'allow' }, /expected to be allowed, seen deny 403/],
    ['H007', { outcome: 'deny', unheard_of: 1 }, /nobody knows the expectation "unheard_of"/],
    ['H007', { outcome: 'unheard of' }, /nobody knows the outcome "unheard of"/],
  ];
  for (const [id, expect, noticed] of WRONG)
    test(`${id}, if it should be ${JSON.stringify(expect)}`, async () => {
      const { state, problems } = await runCase(world, {
        ...caseOf(id),
        expect,
        category: 'none',
      });
      assert.equal(state, 'failed');
      assert.match(problems.join('\n'), noticed);
    });

  /** The real mesh, with a policy that allows what these cases want denied. */
  for (const id of ['H007', 'H027', 'H028', 'P018', 'P019', 'P021', 'P033'])
    test(`${id}, under a policy that allows it`, async () => {
      const fixture = await runSent(world, caseOf(id));
      assert.deepEqual([fixture.state, fixture.problems], ['passed', []], 'under the fixture');
      const { state, problems } = await runSent(world, caseOf(id), 'permissive');
      assert.equal(state, 'failed');
      assert.match(problems.join('\n'), /expected a refusal, seen allow/);
    });

  /** The real proxy, behind something that makes every token a good one. */
  for (const id of [
    'J001',
    'J008',
    'J020',
    'J024',
    'J025',
    'J026',
    'J027',
    'J028',
    'J029',
    'J030',
    'J031',
  ])
    test(`${id}, where every token is good`, async () => {
      const { digest } = await loadDirectory(world.policies);
      const good = await executionToken(world.mesh, { role: 'fixture', policyDigest: digest });
      const callProxy: World['callProxy'] = (bytes) => {
        const [first = '', ...lines] = bytes.toString('latin1').split('\r\n');
        const others = lines.filter((line) => !line.startsWith('Proxy-Authorization:'));
        const head = [first.replace(/\?\S*/, ''), `Proxy-Authorization: Bearer ${good}`, ...others];
        return world.callProxy(Buffer.from(head.join('\r\n'), 'latin1'));
      };
      const { state, problems } = await runCase({ ...world, callProxy }, caseOf(id));
      assert.equal(state, 'failed');
      assert.match(problems.join('\n'), /expected a refusal, seen allow/);
    });

  const UNKNOWN: readonly (readonly [send: Partial<Case['send']>, says: RegExp, id?: string])[] = [
    [{ unheard: 1 }, /nobody knows the field "unheard" of raw/],
    [{ kind: 'unheard' }, /nobody knows the kind "unheard"/],
    [{ to: 'unheard' }, /nobody knows the place "unheard"/],
    [{ encoding: 'unheard' }, /nobody knows the encoding "unheard"/],
    [{ bytes: '{unheard:of}' }, /nobody knows the placeholder {unheard:of}/],
    [{ bytes: 7 }, /bytes is not text/],
    [{ variant: 'unheard' }, /nobody knows the variant "unheard"/, 'J001'],
    [{ fault: 'unheard' }, /nobody knows the fault "unheard"/, 'K013'],
  ];
  for (const [send, says, id = 'H007'] of UNKNOWN)
    test(`with ${JSON.stringify(send)}, which nobody here reads`, async () => {
      const one = caseOf(id);
      const { state, problems } = await runCase(world, { ...one, send: { ...one.send, ...send } });
      assert.equal(state, 'failed');
      assert.match(problems.join(), says);
    });
});

describe('a proxy that only forwards is found out', () => {
  let stage: Stage;
  before(async () => {
    stage = await startPlainStage();
  });
  after(() => stage?.stop());

  const FOUND: readonly (readonly [id: string, by: RegExp])[] = [
    ['H007', /expected a refusal, seen allow/],
    ['I016', /1 connections upstream for what is denied/],
    ['I032', /expected 0 connections upstream, seen 1/],
    ['S007', /expected status 400/],
    ['S064', /requests to evil\.test, seen 1|connections to evil\.test/],
    ['X004', /expected to be allowed/],
    ['T001', /expected 0 connections that could carry bytes, seen 1/],
    ['T013', /expected 0 connections that could carry bytes, seen 1/],
    ['D001', /expected a refusal, seen allow/],
    ['D011', /expected a refusal, seen allow/],
  ];
  for (const [id, by] of FOUND)
    test(`by ${id}`, async () => {
      const { state, problems } = await runSent(stage, caseOf(id));
      assert.equal(state, 'failed');
      assert.match(problems.join('\n'), by);
    });
});

test('a case that lacks a field, or has another one’s id, is named', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'o-cases-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'cases.json');
  const read = (cases: unknown) => {
    writeFileSync(file, JSON.stringify({ cases }));
    return readCases(file);
  };
  const good = caseOf('H007');
  assert.equal(read([good]).length, 1);
  const says = (pattern: RegExp) => (error: unknown) =>
    error instanceof CaseUnusable && pattern.test(error.message);
  assert.throws(() => read([{ ...good, expect: {} }]), says(/H007 lacks/));
  assert.throws(() => read([good, good]), says(/H007 is the id of two cases/));
  assert.throws(() => read('none'), says(/no list "cases"/));
});
