import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startGateway, startHttp } from './testing.ts';

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** The text format of Prometheus 0.0.4; what is no line of it fails. */
function parse(scraped: string): Sample[] {
  return scraped.split('\n').flatMap((line) => {
    if (line === '' || line.startsWith('# HELP ') || line.startsWith('# TYPE ')) return [];
    const [, name, labels = '', value] = SAMPLE.exec(line) ?? assert.fail(`no sample: ${line}`);
    const pairs = [...labels.matchAll(LABEL)].map(
      ([, key = '', said = '']) => [key, said] as const,
    );
    // prom-client writes NaN in a way of its own, which Prometheus takes.
    assert.ok(name !== undefined && /^(nan|[+-]inf|[-+\d.e]+)$/i.test(value ?? ''), line);
    return [{ name, labels: Object.fromEntries(pairs), value: Number(value) }];
  });
}

/** A server with a tool that works, one that fails by its own word, and one that is slow to 502. */
async function start(t: TestContext) {
  const server = await startHttp(t, async (request, response) => {
    const { method, params } = JSON.parse((await text(request)) || '{}');
    if (method === 'initialize') response.setHeader('mcp-session-id', 's');
    if (params?.name === 'lost') {
      await sleep(50);
      request.socket.destroy();
      return;
    }
    const isError = params?.name === 'fails';
    response.writeHead(params?.name === 'breaks' ? 500 : 200, {
      'content-type': 'application/json',
    });
    response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, result: { content: [], isError } }));
  });
  const gateway = await startGateway(t, [server], { serversAre: 'foreign' });
  const send = async (
    method: string,
    params: object = {},
    authorization = gateway.authorization,
  ) => {
    const response = await fetch(`${gateway.origin}/mcp`, {
      method: 'POST',
      headers: { authorization },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    await response.text();
    return response.status;
  };
  const scrape = async () => {
    const samples = parse(await (await fetch(`${gateway.origin}/metrics`)).text());
    return (name: string, labels: Readonly<Record<string, string>> = {}) =>
      samples
        .filter(
          (one) =>
            one.name === name &&
            Object.entries(labels).every(([key, value]) => one.labels[key] === value),
        )
        .reduce((sum, { value }) => sum + value, 0);
  };
  return { send, scrape };
}

test('a call that is lost with its server counts in the time at the server, one that reached none does not', async (t) => {
  const { send, scrape } = await start(t);
  const time = 'outrider_upstream_duration_seconds';
  assert.equal(await send('tools/call', { name: 7 }), 400, 'control');
  assert.equal((await scrape())(`${time}_count`), 0);
  assert.equal(await send('tools/call', { name: 'lost' }), 502);
  const after = await scrape();
  assert.equal(after('outrider_tool_calls_total', { outcome: 'error' }), 2);
  assert.equal(after(`${time}_count`, { tool: 'other' }), 1);
  assert.ok(after(`${time}_sum`) >= 0.045, String(after(`${time}_sum`)));
});

test('L2: counters equal the number of calls that were made, by what came of them', async (t) => {
  const { send, scrape } = await start(t);
  const before = await scrape();
  assert.equal(before('outrider_requests_total'), 0);
  const tool = (name: string) => send('tools/call', { name, arguments: {} });
  for (let n = 0; n < 7; n++) assert.equal(await tool('works'), 200);
  for (let n = 0; n < 3; n++) assert.equal(await tool('fails'), 200);
  for (let n = 0; n < 2; n++) assert.equal(await tool('breaks'), 500);
  for (let n = 0; n < 4; n++) assert.equal(await send('ping'), 200);
  for (let n = 0; n < 5; n++) assert.equal(await send('ping', {}, 'Bearer wrong'), 401);
  const client = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: {} };
  assert.equal(await send('initialize', client), 200);

  const after = await scrape();
  for (const [labels, calls] of [
    [{}, 22],
    [{ status: '200' }, 15],
    [{ status: '401' }, 5],
    [{ status: '500' }, 2],
  ] as const)
    assert.equal(after('outrider_requests_total', labels), calls, JSON.stringify(labels));
  for (const [labels, calls] of [
    [{}, 12],
    [{ tool: 'works', outcome: 'ok' }, 7],
    [{ tool: 'fails', outcome: 'failed' }, 3],
    [{ outcome: 'error' }, 2],
  ] as const)
    assert.equal(after('outrider_tool_calls_total', labels), calls, JSON.stringify(labels));
  assert.equal(after('outrider_auth_failures_total'), 5);
  assert.equal(after('outrider_sessions_total', { event: 'begun' }), 1);
  assert.equal(after('outrider_denials_total', { reason: 'unauthenticated' }), 5);
  assert.equal(after('outrider_denials_total'), 5, 'what servers refuse is no refusal of ours');
  assert.equal(after('outrider_audit_records_total'), 12 + 5, 'calls, and what was refused unread');
});

test('L2: histograms count every request and every call, in buckets that quantiles can be taken of', async (t) => {
  const { send, scrape } = await start(t);
  for (let n = 0; n < 9; n++) await send('tools/call', { name: 'works', arguments: {} });
  await send('ping');
  const seen = await scrape();
  for (const [name, labels, calls] of [
    ['outrider_request_duration_seconds', {}, 10],
    ['outrider_tool_duration_seconds', { tool: 'works' }, 9],
    ['outrider_upstream_duration_seconds', { tool: 'works' }, 9],
  ] as const) {
    assert.equal(seen(`${name}_count`, labels), calls, name);
    assert.equal(seen(`${name}_bucket`, { ...labels, le: '+Inf' }), calls, name);
    assert.equal(
      seen(`${name}_bucket`, { ...labels, le: '60' }),
      calls,
      `${name}: none took a minute`,
    );
    assert.ok(seen(`${name}_sum`, labels) > 0, name);
  }
});

/** Names, types and labels, as docs/gateway.md tells them. */
function documented(): Map<string, readonly [type: string, labels: readonly string[]]> {
  const page = readFileSync(new URL('../docs/gateway.md', import.meta.url), 'utf8');
  const rows = page.matchAll(/^\| `(outrider_\w+)` \| (\w+) \|([^|]*)\|/gm);
  return new Map(
    [...rows].map(([, name = '', type = '', labels = '']) => [
      name,
      [type, [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label)],
    ]),
  );
}

test('docs/gateway.md tells of every metric, with its type and its labels', async (t) => {
  const server = await startHttp(t, async (request, response) => {
    request.resume();
    response.setHeader('mcp-session-id', 's').end('{}');
  });
  const policies = fileURLToPath(new URL('../examples/quickstart/policies', import.meta.url));
  const over = { recovery: true, policies, serversAre: 'foreign' } as const;
  const { origin, authorization } = await startGateway(t, [server], over);
  for (const sent of [authorization, 'Bearer wrong'])
    for (const method of ['tools/call', 'initialize']) {
      const body = JSON.stringify({ id: 1, method, params: { name: 'x' } });
      await fetch(`${origin}/mcp`, { method: 'POST', headers: { authorization: sent }, body });
    }
  const scraped = await (await fetch(`${origin}/metrics`)).text();
  const types = [...scraped.matchAll(/^# TYPE (outrider_\w+) (\w+)$/gm)];
  const known = documented();
  assert.deepEqual(
    types.map(([, name, type]) => `${name} ${type}`).toSorted(),
    [...known].map(([name, [type]]) => `${name} ${type}`).toSorted(),
  );
  const samples = parse(scraped).filter(({ name }) => name.startsWith('outrider_'));
  assert.ok(samples.length > known.size);
  for (const { name, labels } of samples) {
    const [, named] = known.get(name) ?? known.get(name.replace(/_(bucket|sum|count)$/, '')) ?? [];
    const seen = Object.keys(labels).filter((label) => label !== 'part' && label !== 'le');
    assert.deepEqual(seen.toSorted(), named?.toSorted(), name);
  }
});
