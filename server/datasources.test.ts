import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Client, InMemoryTransport } from '@modelcontextprotocol/client';
import { McpServer } from '@modelcontextprotocol/server';
import { parseAddress } from '#core/address';
import { type ErrorCode, OutriderError } from '#core/errors';
import type { Datasource } from '#proto';
import { addDatasources } from './datasources.ts';
import { connectRunner } from './runner-client.ts';

const CALLER = { assertion: 'a', owner: 'o', requestId: 'r', idSpace: undefined };

/** A client of a server whose runner gives this list, or fails so. */
async function connected(
  t: TestContext,
  answer: readonly Datasource[] | ErrorCode,
): Promise<Client> {
  const server = new McpServer({ name: 'test', version: '1' });
  const runner = {
    ...connectRunner(parseAddress('unix:/nowhere')),
    async *watchDatasources() {
      if (typeof answer === 'string') throw new OutriderError(answer, 'so it is');
      yield answer;
    },
  };
  t.after(() => runner.close());
  addDatasources({ server, runner, caller: CALLER, observe: () => {} });
  const [ours, theirs] = InMemoryTransport.createLinkedPair();
  const client = new Client({ name: 'test', version: '1' });
  await Promise.all([server.connect(ours), client.connect(theirs)]);
  t.after(() => client.close());
  return client;
}

const urisOf = async (client: Client) =>
  (await client.listResources()).resources.map(({ uri }) => uri);
const LIST = 'outrider://datasources';

test('F8: each datasource is a resource beside the list of them', async (t) => {
  const client = await connected(t, [{ type: 'http', name: 'a.b', description: '' }]);
  assert.deepEqual(await urisOf(client), [LIST, `${LIST}/http/a.b`]);
  const { contents } = await client.readResource({ uri: `${LIST}/http/a.b` });
  const [content] = contents;
  assert.ok(content && 'text' in content);
  assert.equal(JSON.parse(content.text).url, '$OUTRIDER_URL/http/a.b/');
  await assert.rejects(client.readResource({ uri: `${LIST}/http/a` }), /no such datasource/);
});

for (const code of ['ROLE_DENIED', 'ROLE_AMBIGUOUS'] as const)
  test(`F8: to whom the runner says ${code} the list names nothing, and reading it says why`, async (t) => {
    const client = await connected(t, code);
    assert.deepEqual(await urisOf(client), [LIST]);
    await assert.rejects(client.readResource({ uri: LIST }), new RegExp(`so it is \\[${code}\\]`));
  });

test('F8: a runner that is away is an error, not an empty list', async (t) => {
  const client = await connected(t, 'UPSTREAM_UNREACHABLE');
  await assert.rejects(urisOf(client), /UPSTREAM_UNREACHABLE/);
});
