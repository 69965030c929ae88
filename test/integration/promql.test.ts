import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { type Guard, inspectDatasource, parsePath } from '#policies';

/**
 * What the inspection lets pass is asked of two real servers: one knows our tenant alone, the other a second tenant too. Where
 * the demanded label is enforced on every selector, the two must answer the same to the letter.
 */

const AT = 1_700_000_000;
const QUERIES = 3_000;
const BATCH = 50;
const GUARD: Guard = { type: 'prometheus', labels: { tenant: 'acme' }, endpoints: 'any' };

const directory = mkdtempSync(join(tmpdir(), 'outrider-promql-'));
const children: ChildProcess[] = [];
const urls: string[] = [];

before(async () => {
  urls.push(await serve('ours', ['acme']), await serve('all', ['acme', 'other']));
});

after(async () => {
  for (const child of children) {
    const gone = once(child, 'exit');
    if (child.kill('SIGTERM')) await gone;
  }
  rmSync(directory, { recursive: true, force: true });
});

/** A server over blocks made of some tenants' samples, which scrapes nothing; resolves to where it is. */
async function serve(name: string, tenants: readonly string[]): Promise<string> {
  const [data, samples, config] = ['data', 'samples', 'config.yml'].map((file) =>
    join(directory, `${name}-${file}`),
  ) as [string, string, string]; // as many as there are names
  writeFileSync(samples, openMetrics(tenants));
  writeFileSync(config, 'global: {}\n');
  execFileSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', samples, data], {
    stdio: 'ignore',
  });
  const child = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${data}`,
      '--storage.tsdb.retention.time=100y',
      '--web.listen-address=127.0.0.1:0',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  children.push(child);
  // It says both at once, in either order.
  let address: string | undefined;
  let isReady = false;
  for await (const line of createInterface({ input: child.stderr })) {
    address = /Listening on.*address=(\S+)/.exec(line)?.[1] ?? address;
    isReady ||= /ready to receive web requests/.test(line);
    if (isReady && address !== undefined) break;
  }
  child.stderr.resume();
  assert.ok(address !== undefined, 'prometheus says where it listens');
  return `http://${address}`;
}

function openMetrics(tenants: readonly string[]): string {
  const lines = ['up', 'sum', 'requests', 'on'].flatMap((metric, m) => [
    `# TYPE ${metric} gauge`,
    ...tenants.flatMap((tenant, t) =>
      ['a', 'b'].flatMap((job, j) =>
        Array.from({ length: 20 }, (_, i) => {
          const value = (m + 1) * 100 + (t + 1) * 10 + j + i;
          return `${metric}{tenant="${tenant}",job="${job}"} ${value} ${AT - (20 - i) * 30}`;
        }),
      ),
    ),
  ]);
  return `${lines.join('\n')}\n# EOF\n`;
}

test(`${QUERIES} random queries: what passes tells nothing of another tenant`, async () => {
  const random = generator(20_261_121);
  const queries = Array.from({ length: QUERIES }, () => expression(random, 3));
  const passing = queries.filter(passes);
  const found = await compare(passing);
  assert.deepEqual(found.differing, []);
  assert.ok(found.answered > 200, `${found.answered} of ${passing.length} were answered`);
  assert.ok(found.nonEmpty > 50, `${found.nonEmpty} of them with anything`);

  const refused = await compare(queries.filter((query) => !passes(query)));
  assert.ok(refused.differing.length > 50, 'control: the servers do tell the tenants apart');
});

function passes(query: string): boolean {
  const path = parsePath('/api/v1/query');
  assert.ok(typeof path !== 'string');
  return inspectDatasource(
    GUARD,
    {},
    {
      type: 'prometheus',
      name: 'main',
      method: 'GET',
      path,
      query: `query=${encodeURIComponent(query)}`,
      body: null,
      header: () => undefined,
    },
  ).ok;
}

async function compare(queries: readonly string[]) {
  const found = { answered: 0, nonEmpty: 0, differing: [] as string[] };
  for (let i = 0; i < queries.length; i += BATCH) {
    const batch = queries.slice(i, i + BATCH);
    const answers = await Promise.all(
      batch.map((query) => Promise.all(urls.map((url) => answerOf(url, query)))),
    );
    for (const [j, [ours = '', all = '']] of answers.entries()) {
      if (ours !== all) found.differing.push(batch[j] ?? '');
      if (!ours.startsWith('error')) found.answered += 1;
      if (ours.includes('metric')) found.nonEmpty += 1;
    }
  }
  return found;
}

async function answerOf(url: string, query: string): Promise<string> {
  const response = await fetch(`${url}/api/v1/query?time=${AT}`, {
    method: 'POST',
    body: new URLSearchParams({ query }),
  });
  if (!response.ok) return `error ${response.status}`;
  const answer = (await response.json()) as { data: { result: unknown } }; // Prometheus's API
  const { result } = answer.data;
  return Array.isArray(result)
    ? JSON.stringify(result.map((one) => JSON.stringify(one)).toSorted())
    : JSON.stringify(result);
}

type Random = (below: number) => number;

/** The grammar of PromQL and a little beyond it. */
function expression(random: Random, depth: number): string {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T; // within its bounds
  const inner = (): string => expression(random, depth - 1);
  const space = (): string => pick(['', ' ', '\n']);
  if (depth === 0 || random(5) === 0) {
    return pick([selector, selector, selector, selector, () => '1', () => 'Inf', () => '"x"'])(
      random,
    );
  }
  const range = (): string =>
    `${selector(random)}[${pick(['5m', '1h', '300s', '10m:1m', '5m:'])}]${pick(['', '', ' offset 1m'])}`;
  return pick([
    () =>
      `${inner()}${space()} ${pick(['+', '-', '*', '/', '==', '> bool', '<', 'and', 'or', 'unless'])} ${pick(['', '', 'on (job) ', 'ignoring (tenant) ', 'on (job) group_left '])}${inner()}`,
    () =>
      `${pick(['sum', 'max', 'count', 'SUM', 'topk'])}${pick(['', ' by (job)', ' without (job)'])}(${pick(['', '', '1, '])}${inner()})${pick(['', '', ' by (tenant)'])}`,
    () => `${pick(['rate', 'max_over_time', 'count_over_time', 'last_over_time'])}(${range()})`,
    () => `${pick(['abs', 'absent', 'scalar', 'vector', 'sort', 'timestamp'])}(${inner()})`,
    () => `label_replace(${inner()}, "job", "$1", "tenant", "(.*)")`,
    () => `max_over_time((${inner()})[5m:1m])`,
    () => `(${inner()})`,
    () => `-${inner()}`,
    () => `${selector(random)} @ ${pick(['end()', 'start()', String(AT - 60)])}`,
  ])();
}

function selector(random: Random): string {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T; // within its bounds
  const ours = ['tenant="acme"', "tenant='acme'", 'tenant=`acme`', 'tenant = "acme"'];
  const others = [
    '',
    'tenant=~"acme|other"',
    'tenant!="x"',
    'tenant="acme", tenant=~".+"',
    'tenant="acm\\u0065"',
    'job="a\\" tenant=\\"acme"',
  ];
  const matcher = random(8) === 0 ? pick(others) : pick(ours);
  const more = pick(['', '', ', job="a"', ', job=~"a|b",', ',job!~"b"']);
  const name = pick(['up', 'sum', 'requests', 'on', '']);
  if (name !== '' && random(12) === 0) return name;
  return name === ''
    ? `{__name__=~"up|requests", ${matcher === '' ? 'job=~".+"' : matcher}${more}}`
    : `${name}${pick(['', ' '])}{${matcher}${matcher === '' ? '' : more}}`;
}

/** Numbers below a bound, the same in every run. */
function generator(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % below;
  };
}
