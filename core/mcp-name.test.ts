import assert from 'node:assert/strict';
import { test } from 'node:test';
import { headerOf, standsFor } from './mcp-name.ts';

const VALUES = [
  ['plain text, with spaces', true],
  [' leading', false],
  ['trailing ', false],
  ['', false],
  ['höhe', false],
  ['an inner\ttab', false],
  ['a\r\nx-injected: 1', false],
  ['=?base64?aA==?=', false],
] as const;

for (const [value, plain] of VALUES)
  test(`${JSON.stringify(value)} is sent ${plain ? 'as it is' : 'in base64'}, and is then understood`, () => {
    const sent = headerOf(value);
    if (plain) assert.equal(sent, value);
    else {
      const [, base64 = ''] = /^=\?base64\?([A-Za-z0-9+/=]*)\?=$/.exec(sent) ?? [];
      assert.equal(Buffer.from(base64, 'base64').toString(), value);
      assert.notEqual(sent, value);
    }
    assert.ok(standsFor(sent, value));
    assert.ok(!standsFor(sent, `${value}x`));
  });

const REFUSED = [
  ['höhe', 'höhe', 'headers are ASCII'],
  ['a\tb', 'a\tb', 'a tab is not visible'],
  ['=?base64?aMO2!aGU=?=', 'höhe', 'what only some can decode'],
  ['7', 7, 'a value that is no text'],
  ['', undefined, 'no value'],
] as const;

for (const [header, value, why] of REFUSED)
  test(`${JSON.stringify(header)} does not stand for ${JSON.stringify(value)}: ${why}`, () => {
    assert.ok(!standsFor(header, value));
  });
