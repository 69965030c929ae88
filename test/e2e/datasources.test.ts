import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';

// What a caller is told of its datasources: as resources by MCP, and inside the sandbox by the door.

let mesh: RunningMesh;
let ofTheStart: unknown[];
before(async () => {
  mesh = await startMesh();
  ofTheStart = digests();
});
after(() => mesh?.stop());

const DESCRIPTION = 'A small HTTP API of the demo.';
const ERAS = ['legacy', { pin: '2026-07-28' }] as const;
type Era = (typeof ERAS)[number];

async function connected(t: TestContext, mode: Era): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } });
  await client.connect(
    new StreamableHTTPClientTransport(mesh.url, {
      requestInit: { headers: { authorization: `Bearer ${mesh.token}` } },
    }),
  );
  t.after(() => client.close());
  return client;
}

async function textOf(client: Client, uri: string): Promise<string> {
  const { contents } = await client.readResource({ uri });
  const [content] = contents;
  return content && 'text' in content ? content.text : '';
}

/** Puts another description into the policies. */
function describeAnew(t: TestContext, description: string): void {
  const file = join(mesh.policies, 'datasources.yaml');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace(DESCRIPTION, description));
  t.after(async () => {
    writeFileSync(file, text);
    await until('it is in force again', () => isDeepStrictEqual(digests(), ofTheStart));
  });
}

/** The policies that runner and proxy have. */
function digests(): unknown[] {
  return ['runner', 'proxy'].map(
    (part) => mesh.audit(part).findLast(({ event }) => event === 'policy')?.['policyDigest'],
  );
}

for (const era of ERAS)
  test(`F8: datasources are resources of MCP, without where they are and by what secret, and are of the policy in force (${JSON.stringify(era)})`, async (t) => {
    const client = await connected(t, era);
    const { resources } = await client.listResources();
    assert.deepEqual(
      resources.map(({ uri, description }) => [uri, description]),
      [
        [
          'outrider://datasources',
          'What programs may ask without any credential, by type and name.',
        ],
        ['outrider://datasources/http/example', DESCRIPTION],
        ['outrider://datasources/prometheus/metrics', 'The Prometheus of this machine.'],
      ],
    );
    const list = await textOf(client, 'outrider://datasources');
    assert.deepEqual(JSON.parse(list).datasources[0], {
      type: 'http',
      name: 'example',
      description: DESCRIPTION,
      url: '$OUTRIDER_URL/http/example/',
      alias: 'http://http-example.outrider.internal/',
    });
    for (const hidden of ['9191', '9090', String(mesh.ports.example), 'token', 'password', 'basic'])
      assert.ok(!list.includes(hidden), hidden);
    await assert.rejects(client.readResource({ uri: 'outrider://datasources/http/other' }));
    describeAnew(t, 'Something else.');
    await until('the change is there', async () =>
      (await textOf(client, 'outrider://datasources/http/example')).includes('Something else.'),
    );
  });

test('F8: a client that listens hears of a change of its datasources through the gateway, and of nothing else', async (t) => {
  const client = await connected(t, { pin: '2026-07-28' });
  const heard: string[] = [];
  client.setNotificationHandler('notifications/resources/list_changed', () => {
    heard.push('list_changed');
  });
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => {
    heard.push(params.uri);
  });
  const subscription = await client.listen({
    resourcesListChanged: true,
    resourceSubscriptions: [
      'outrider://datasources/http/example',
      'outrider://datasources/prometheus/metrics',
    ],
  });
  t.after(() => subscription.close());
  describeAnew(t, 'Heard of.');
  await until('it is told', () => heard.length === 2);
  assert.deepEqual(heard, ['list_changed', 'outrider://datasources/http/example']);
});

/** Says what it reads, and again once that has changed. */
const PROGRAM = `
import json, os, time, urllib.request
last = None
for said in range(2):
    while True:
        answer = json.load(urllib.request.urlopen(os.environ["OUTRIDER_URL"] + "/datasources"))
        if answer != last: break
        time.sleep(1)
    print(json.dumps([[one["type"], one["name"], one["description"]] for one in answer["datasources"]]), flush=True)
    last = answer
`;

test('F8: a program reads the list at the door while it runs, and reads the changed one after a change', async (t) => {
  const program = mesh.sdk.start(PROGRAM, { timeoutMs: 30_000 });
  let out = '';
  for await (const event of program.events) {
    if (event.stream === 'end') assert.equal(event.end.exitCode, 0, out);
    else out += event.data.toString();
    if (event.stream === 'stdout' && out.split('\n').length === 2) describeAnew(t, 'Read inside.');
  }
  const listWith = (description: string) => [
    ['http', 'example', description],
    ['prometheus', 'metrics', 'The Prometheus of this machine.'],
  ];
  const [first = '', second = ''] = out.split('\n');
  assert.deepEqual(JSON.parse(first), listWith(DESCRIPTION));
  assert.deepEqual(JSON.parse(second), listWith('Read inside.'));
});
