import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { rootCertificates } from 'node:tls';
import { trustBags, trustStore } from './trust-store.ts';

// That Java reads such a store and trusts what is in it: test/parts/clients.test.ts.

const FEW = rootCertificates.slice(0, 3);
/** 2.16.840.1.113894.746875.1.1, without which Java passes a certificate over. */
const TRUSTED = Buffer.from('060c6086480186f966adca7b0101', 'hex');

test('a store holds the certificates of each text, in their order, each marked as trusted', () => {
  const [first = '', second = '', third = ''] = FEW;
  const bags = [trustBags(`# one\n${first}\n\nand two\n${second}`), trustBags(third)];
  const store = trustStore(...bags);
  let at = 0;
  for (const pem of FEW) {
    const { raw } = new X509Certificate(pem);
    const found = store.indexOf(raw, at);
    assert.ok(found > at, 'the certificate comes behind the one before it');
    at = store.indexOf(TRUSTED, found + raw.length);
    assert.ok(at > found, 'and its mark behind it');
  }
  assert.equal(store.indexOf(TRUSTED, at + 1), -1);
});

test('a text without a certificate adds nothing', () => {
  assert.equal(trustBags('# none\n').length, 0);
});
