import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend, BoxAsk } from './backends/backend.ts';
import { KnownBackends } from './known-backends.ts';

const problems: Record<string, string | undefined> = {};
const backend = (name: Backend['name'], tier: Backend['tier']): Backend<BoxAsk> => ({
  name,
  tier,
  images: [],
  limitsAddressSpace: false,
  probe: async () => problems[name],
  start: () => assert.fail('nothing is started here'),
});

test('a backend counts as unusable until it was tried, and each is as it was last seen', async () => {
  const known = new KnownBackends([
    backend('bubblewrap', 'namespaces'),
    backend('docker', 'container'),
  ]);
  assert.match(known.problem ?? '', /not tried/);
  problems['docker'] = 'start dockerd';
  assert.equal(await known.look(), true, 'the default has become usable');
  assert.equal(known.problem, undefined);
  assert.deepEqual(known.problems, { docker: 'start dockerd' });
  assert.equal(await known.look(), false, 'nothing has changed');

  delete problems['docker'];
  assert.equal(await known.look(({ name }) => name === 'bubblewrap'), false);
  assert.deepEqual(known.problems, { docker: 'start dockerd' }, 'nobody looked at it');
  assert.equal(await known.look(), true);
  assert.deepEqual(known.problems, {});

  problems['bubblewrap'] = 'gone';
  assert.equal(await known.look(), false);
  assert.equal(known.problem, 'gone');
});
