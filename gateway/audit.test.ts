import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { verifyAudit } from '#core/audit-verify';
import { loadConfig } from '#core/config';
import { silentLogger } from '#core/log';
import { Metrics } from '#core/metrics';
import { createAudit, openAudit } from './audit.ts';
import { gatewaySpec } from './config.ts';

/** A file in memory, whose disk can be full. */
function paper() {
  const writes: string[] = [];
  const disk = { full: false };
  const sink = {
    append(lines: string) {
      if (disk.full) throw new Error('no space left on device');
      writes.push(lines);
    },
  };
  const audit = createAudit(sink, { log: silentLogger, metrics: new Metrics('gateway') });
  const lines = () => writes.flatMap((written) => written.split('\n'));
  return { audit, writes, disk, lines };
}

const call = (tool: string) => ({ event: 'call', tool }) as const;

test('what one turn records is one write, and a chain', async () => {
  const { audit, writes, lines } = paper();
  await turn();
  const before = writes.length;
  for (const tool of ['a', 'b', 'c']) audit.record(call(tool));
  await turn();
  assert.equal(writes.length, before + 1);
  await audit.close();
  const { findings, records } = await verifyAudit(lines());
  assert.deepEqual(findings, []);
  assert.equal(records, 5); // start, three calls, end
});

test('L4: a file that is full begins anew, as the configuration says, and of the series that many are kept', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'o-gateway-audit-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const kept = async (rotation: Readonly<Record<string, string>>): Promise<number> => {
    const place = mkdtempSync(join(directory, 'of-'));
    const env = { OUTRIDER_GATEWAY_AUDIT: join(place, 'gateway.jsonl'), ...rotation };
    const spec = gatewaySpec({ runtime: place, state: place });
    const config = loadConfig('gateway', spec, { argv: [], env });
    const audit = openAudit(config, silentLogger, new Metrics('gateway'));
    for (let count = 0; count < 100; count++) {
      audit.record(call('t'));
      await turn();
    }
    await audit.close();
    // As root the places of full files are there from the start, empty.
    return readdirSync(place).filter(
      (name) => /^gateway\b.*\.jsonl$/.test(name) && statSync(join(place, name)).size > 0,
    ).length;
  };
  const full = { OUTRIDER_GATEWAY_AUDIT_MAX_BYTES: '4KiB' };
  assert.equal(await kept({ ...full, OUTRIDER_GATEWAY_AUDIT_FILES: '3' }), 3);
  assert.equal(await kept(full), 5);
  assert.equal(await kept({}), 1, 'control: 10 MiB are not full');
});

test('a full disk refuses the next call, loses no record, and is over when there is room', async () => {
  const { audit, disk, lines } = paper();
  await turn();
  audit.assertWritable();
  disk.full = true;
  audit.record(call('during'));
  await turn();
  assert.throws(() => audit.assertWritable(), { code: 'AUDIT_UNAVAILABLE' });
  audit.record(call('owed'));
  disk.full = false;
  audit.assertWritable();
  await audit.close();
  const { findings } = await verifyAudit(lines());
  assert.deepEqual(findings, []);
  const tools = lines().map((line) => JSON.parse(line).tool);
  assert.deepEqual(
    tools.filter((tool) => tool !== undefined),
    ['during', 'owed'],
  );
});

test('more than can be owed is refused before it happens, and told', async () => {
  const { audit, disk, lines } = paper();
  await turn();
  disk.full = true;
  for (let record = 0; record < 10_050; record++) audit.record(call('x'));
  await turn();
  assert.throws(() => audit.assertWritable(), { code: 'AUDIT_UNAVAILABLE' });
  disk.full = false;
  audit.assertWritable();
  await audit.close();
  assert.equal(lines().filter((line) => line.includes('"call"')).length, 10_000);
  assert.deepEqual((await verifyAudit(lines())).findings, []);
});
