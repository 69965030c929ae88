import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ExecResponse } from '#proto';
import { encodeExecResponse } from './output-message.ts';

const chunk = (size: number, offset: bigint) => ({ data: Buffer.alloc(size, 'a\xff'), offset });
type Response = NonNullable<ExecResponse['response']>;

describe('an answer of Exec is encoded as the contract says', () => {
  const cases: readonly (readonly [string, Response])[] = [
    ['a byte', { $case: 'stdout', value: chunk(1, 0n) }],
    ['a byte further on', { $case: 'stderr', value: chunk(1, 127n) }],
    ['nothing', { $case: 'stdout', value: chunk(0, 0n) }],
    ['nothing, somewhere', { $case: 'stdout', value: chunk(0, 128n) }],
    ['a size of two bytes', { $case: 'stdout', value: chunk(128, 16_384n) }],
    ['a size of three bytes', { $case: 'stderr', value: chunk(70_000, 2n ** 40n) }],
    ['the furthest offset', { $case: 'stderr', value: chunk(3, 2n ** 64n - 1n) }],
    ['no output', { $case: 'keepAlive', value: {} }],
  ];
  for (const [what, response] of cases)
    test(what, () => {
      const bytes = encodeExecResponse({ response });
      assert.deepEqual(bytes, Buffer.from(ExecResponse.encode({ response }).finish()));
      assert.deepEqual(ExecResponse.decode(bytes).response, response);
    });
});

test('what was encoded does not change with the output that it was made of', () => {
  const data = Buffer.from('before');
  const bytes = encodeExecResponse({ response: { $case: 'stdout', value: { data, offset: 0n } } });
  data.fill('x');
  const { response } = ExecResponse.decode(bytes);
  assert.equal(response?.$case === 'stdout' && response.value.data.toString(), 'before');
});
