import { octets, oid, sequence, set, tagged, unsigned } from '#core/der';

/** RFC 7292 and RFC 2985: what a PKCS #12 file is made of. */
const DATA = oid('1.2.840.113549.1.7.1');
const CERT_BAG = oid('1.2.840.113549.1.12.10.1.3');
const X509_CERTIFICATE = oid('1.2.840.113549.1.9.22.1');
/** Java takes a certificate for a trusted one only where this stands beside it: the use, and for what, which is anything. */
const TRUSTED_USE = sequence(oid('2.16.840.1.113894.746875.1.1'), set(oid('2.5.29.37.0')));

/**
 * The certificates of a PEM text as parts of a trust store. Of many that never change they are made once: a store is no more than
 * its parts in a row.
 */
export function trustBags(pem: string): Buffer {
  const blocks = pem.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----/g);
  return Buffer.concat([...blocks].map(([, base64 = '']) => bag(Buffer.from(base64, 'base64'))));
}

/**
 * A PKCS #12 file (RFC 7292) as Java's `javax.net.ssl.trustStore` reads it: certificates in the clear and no password, since nothing in
 * it is secret. Whoever could change it could change the program.
 */
export function trustStore(...bags: readonly Buffer[]): Buffer {
  const safe = sequence(contentInfo(sequence(...bags)));
  return sequence(unsigned(Buffer.from([3])), contentInfo(safe));
}

function bag(certificate: Buffer): Buffer {
  const value = sequence(X509_CERTIFICATE, tagged(0xa0, octets(certificate)));
  return sequence(CERT_BAG, tagged(0xa0, value), set(TRUSTED_USE));
}

function contentInfo(content: Buffer): Buffer {
  return sequence(DATA, tagged(0xa0, octets(content)));
}
