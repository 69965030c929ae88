import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { type Fleet, startFleet } from '../support/fleet.ts';

// A client whose event stream is at one gateway and whose calls go through the other, before two servers.

let fleet: Fleet;
before(async () => {
  fleet = await startFleet({ gateways: 2, backends: 2 });
});
after(() => fleet.stop());

const WITHIN_MS = 60_000;

/** What is sent through gateway A and what through B; the address that the client knows is A's. */
function split(throughB: (method: string, body: string) => boolean): StreamableHTTPClientTransport {
  const [a, b] = fleet.gateways.map(({ port }) => `http://127.0.0.1:${port}/mcp`);
  assert.ok(a !== undefined && b !== undefined);
  return new StreamableHTTPClientTransport(new URL(a), {
    requestInit: { headers: { authorization: `Bearer ${fleet.place.token}` } },
    fetch: (_, init = {}) =>
      fetch(
        throughB(init.method ?? 'GET', typeof init.body === 'string' ? init.body : '') ? b : a,
        init,
      ),
  });
}

/** Resolves when `changed` was called, rejects after a minute. */
function changes(): { changed: () => void; came: Promise<void> } {
  let changed = () => {};
  const came = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('nothing was heard')), WITHIN_MS);
    changed = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  return { changed, came };
}

const isCall = (body: string) => body.includes('"tools/call"');

describe('A5: a stream at gateway A', () => {
  test('of a session hears of a changed list, and of the progress of a call, that went through B', async (t) => {
    const heard = changes();
    const client = new Client(
      { name: 't', version: '1' },
      { versionNegotiation: { mode: 'legacy' } },
    );
    client.setNotificationHandler('notifications/tools/list_changed', heard.changed);
    const used: string[] = [];
    await client.connect(
      split((method, body) => {
        const b = method === 'POST' && isCall(body);
        used.push(`${method} ${b ? 'B' : 'A'}`);
        return b;
      }),
    );
    t.after(() => client.close());
    assert.equal(client.getProtocolEra(), 'legacy');
    // Answer and progress come by two connections, and `onprogress` hears of none after the answer.
    const progressed = changes();
    client.setNotificationHandler('notifications/progress', ({ params }) => {
      if (params.progressToken === 'far' && params.progress === 1) progressed.changed();
    });
    await client.callTool({ name: 'announce', arguments: {}, _meta: { progressToken: 'far' } });
    await Promise.all([heard.came, progressed.came]);
    assert.ok(used.includes('GET A') && used.includes('POST B'), used.join());
  });

  test('of the stateless era hears of a list that a call through B has changed, at whichever server', async (t) => {
    const heard = changes();
    const client = new Client(
      { name: 't', version: '1' },
      { versionNegotiation: { mode: { pin: '2026-07-28' } } },
    );
    client.setNotificationHandler('notifications/tools/list_changed', heard.changed);
    await client.connect(split((_, body) => isCall(body)));
    t.after(() => client.close());
    const subscription = await client.listen({ toolsListChanged: true });
    t.after(() => subscription.close());
    await client.callTool({ name: 'test_trigger_tool_change', arguments: {} });
    await heard.came;
  });
});
