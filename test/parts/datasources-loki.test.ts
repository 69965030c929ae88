import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DataPath, startDataPath } from '../support/data-path.ts';
import { openDoorPort } from '../support/door-port.ts';
import { type LokiServer, startLoki } from '../support/loki.ts';
import { analystPolicies, loopbackDatasource } from '../support/policies.ts';

// A real Loki with several tenants behind a real sidecar and a real proxy. OUTRIDER_LOKI is the program; `.ci/run` builds it.

const POLICY = (endpoint: string) =>
  analystPolicies(
    [
      {
        id: 'logs',
        datasource: 'loki/main',
        labels: { team: 'ours' },
        limits: { rate: '6000/min', burst: 1000, range: '2h' },
      },
    ],
    [
      loopbackDatasource('loki', 'main', endpoint, {
        auth: { type: 'bearer' },
        secretRef: 'file:loki',
        tenant: 'acme',
      }),
    ],
  );

let loki: LokiServer;
let path: DataPath;
let door: Awaited<ReturnType<typeof openDoorPort>>;
before(async () => {
  loki = await startLoki(process.env['OUTRIDER_LOKI'] ?? 'loki');
  path = await startDataPath(POLICY(loki.url), {}, { secrets: { loki: 'token-of-loki' } });
  door = await openDoorPort(await path.sandbox('analyst'));
  await loki.push('acme', { app: 'web', team: 'ours' }, ['ours one', 'ours two']);
  await loki.push('acme', { app: 'web', team: 'theirs' }, ['theirs']);
  await loki.push('other', { app: 'web', team: 'ours' }, ['of another tenant']);
});
after(async () => {
  await door?.close();
  await path?.stop();
  await loki?.stop();
});

const START = Math.floor(Date.now() / 1_000) - 600;
function ask(part: string, parameters: Record<string, string>, headers = {}): Promise<Response> {
  const times = { start: String(START), end: String(START + 3_600) };
  const query = new URLSearchParams({ ...times, ...parameters });
  return fetch(`${door.url}/loki/main/loki/api/v1/${part}?${query.toString()}`, { headers });
}

/** The lines of every stream of an answer. */
async function linesOf(answer: Response): Promise<string[]> {
  const { data } = Object(await answer.json());
  const streams: { values: [string, string][] }[] = data?.result ?? [];
  return streams.flatMap(({ values }) => values.map(([, line]) => line)).toSorted();
}

test('F2: lines of the demanded labels and of the tenant of the datasource, and no others', async () => {
  const query = '{team="ours", app=~".+"}';
  let lines: string[] = [];
  for (let tries = 0; tries < 200 && lines.length < 2; tries++) {
    lines = await linesOf(await ask('query_range', { query }));
    if (lines.length < 2) await sleep(50);
  }
  assert.deepEqual(lines, ['ours one', 'ours two']);
});

test('F2: counting, series, labels and their values come from the same lines', async () => {
  const counted = await ask('query_range', {
    query: 'sum by (team) (count_over_time({team="ours"} |= "ours" [1h]))',
    step: '60',
  });
  assert.equal(counted.status, 200);
  assert.match(await counted.text(), /"team":"ours"/);
  const series = await ask('series', { 'match[]': '{team="ours"}' });
  const { data } = Object(await series.json());
  assert.deepEqual(
    data.map((one: { team: string }) => one.team),
    ['ours'],
  );
  const values = await ask('label/team/values', { query: '{team="ours"}' });
  assert.deepEqual(Object(await values.json()).data, ['ours']);
});

const REFUSED: readonly (readonly [
  string,
  string,
  Record<string, string>,
  Record<string, string>?,
])[] = [
  ['label_not_enforced', 'query_range', { query: '{app="web"}' }],
  ['label_not_enforced', 'query_range', { query: '{team=~"ours|theirs"}' }],
  ['label_not_enforced', 'query_range', { query: '{team="theirs"}' }],
  ['label_not_enforced', 'labels', {}],
  ['query_budget', 'query_range', { query: '{team="ours"}', start: String(START - 86_400) }],
  ['query_budget', 'query_range', { query: 'sum(count_over_time({team="ours"}[3d]))' }],
  ['header_forbidden', 'query_range', { query: '{team="ours"}' }, { 'x-scope-orgid': 'other' }],
  ['path_not_allowed', 'tail', { query: '{team="ours"}' }],
  ['path_not_allowed', 'push', {}],
  ['path_not_allowed', 'delete', { query: '{team="ours"}' }],
  ['path_not_allowed', 'rules', {}],
];
for (const [reason, part, parameters, headers] of REFUSED)
  test(`F2: ${reason}: ${part} ${JSON.stringify(parameters)}`, async () => {
    const got = await ask(part, parameters, headers);
    const text = await got.text();
    assert.ok(got.status === 403 || got.status === 400, text);
    assert.equal(got.headers.get('x-outrider-reason'), reason, text);
  });

test('control: the server itself gives the other team and the other tenant to whoever asks', async () => {
  const query = new URLSearchParams({ query: '{app="web"}', start: String(START) }).toString();
  const of = (tenant: string) =>
    fetch(`${loki.url}/loki/api/v1/query_range?${query}`, { headers: { 'x-scope-orgid': tenant } });
  assert.deepEqual(await linesOf(await of('acme')), ['ours one', 'ours two', 'theirs']);
  assert.deepEqual(await linesOf(await of('other')), ['of another tenant']);
  assert.equal((await fetch(`${loki.url}/loki/api/v1/query_range?${query}`)).status, 401);
});
