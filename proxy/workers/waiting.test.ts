import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Counts, createCounts } from '../counts.ts';
import { usedProofs } from '../dpop.ts';
import { exchangeKeyOf } from '../exchange-key.ts';
import { usedTokens } from '../identify.ts';
import { MemoryLeases } from '../limits/memory-store.ts';
import type { Seat } from '../seat.ts';
import { openSidecarAudit } from '../server.ts';
import { BOUNDARY, datasource, egressPolicy, ROLE, startMesh, startOrigin } from '../testing.ts';

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 3_000, 'it does not come to that');
    await sleep(20);
  }
}

for (const tightened of [false, true])
  test(`a request that waits for its primary ${tightened ? 'does not go out when the policy allows it no longer' : 'goes out when that has answered'}`, async (t) => {
    const origin = await startOrigin(t, (_request, response) => response.end('hello'));
    const documents = (methods: readonly string[]) => [
      ROLE,
      BOUNDARY,
      egressPolicy([{ id: 'api', datasource: 'http/api', methods }]),
      datasource('http', 'api', `http://127.0.0.1:${origin.port}`),
    ];
    const answering = new EventEmitter();
    let waiting = 0;
    let digest = (): unknown => undefined;
    const late = (counts: Counts): Counts => ({
      take: async (countable) => {
        waiting += 1;
        await once(answering, 'go');
        return counts.take(countable);
      },
      close: () => counts.close(),
    });
    const mesh = await startMesh(t, {
      documents: documents(['GET']),
      seat: (config): Seat => ({
        number: 1,
        again: false,
        exchangeKey: exchangeKeyOf(undefined),
        proxyId: 'proxy',
        usedTokens: usedTokens(),
        usedProofs: usedProofs(),
        sink: openSidecarAudit(config),
        leases: new MemoryLeases({ keepsBack: false }).of('worker 1'),
        counts: (limiter) => late(createCounts(limiter)),
        readiness: (_checks, info) => void (digest = () => info()['policyDigest']),
      }),
    });
    const asked = mesh.ask('/http/api/x');
    await until(() => waiting === 1);
    const before = digest();
    assert.equal(typeof before, 'string');
    if (tightened) {
      mesh.writePolicies(documents(['POST']));
      await until(() => digest() !== before);
    }
    answering.emit('go');
    assert.equal((await asked).status, tightened ? 405 : 200);
    assert.equal(origin.seen.length, tightened ? 0 : 1);
  });
