import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { bits, octets, oid, sequence, set, tagged, time, truth, unsigned, utf8 } from '#core/der';

/** What every certificate says, and who signs it. */
export interface CertificateSpec {
  /** Common names; they are for people, nothing is checked by them. */
  readonly subject: string;
  readonly issuer: string;
  readonly subjectKey: KeyObject;
  readonly issuerKey: { readonly publicKey: KeyObject; readonly privateKey: KeyObject };
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/**
 * A CA certificate in PEM that may sign for names at or below `hosts` and for nothing else: no address, no further CA. Key usage,
 * identifiers and critical marks are as RFC 5280, 4.2.1 has them, which Python 3.13 and Go insist on.
 */
export function authorityCertificate(spec: CertificateSpec, hosts: readonly string[]): string {
  return certificate(spec, [
    extension('2.5.29.19', true, sequence(truth(), unsigned(Buffer.from([0])))),
    extension('2.5.29.15', true, bits(Buffer.from([0b0000_0110]), 1)), // keyCertSign, cRLSign
    extension('2.5.29.30', true, nameConstraints(hosts)),
    subjectKeyIdentifier(spec.subjectKey),
  ]);
}

/** A certificate in PEM for a TLS server of one name. */
export function serverCertificate(spec: CertificateSpec, host: string): string {
  const keyId = keyIdentifier(spec.issuerKey.publicKey);
  return certificate(spec, [
    extension('2.5.29.19', true, sequence()),
    extension('2.5.29.15', true, bits(Buffer.from([0b1000_0000]), 7)), // digitalSignature
    extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'))), // serverAuth
    extension('2.5.29.17', false, sequence(dnsName(host))),
    subjectKeyIdentifier(spec.subjectKey),
    extension('2.5.29.35', false, sequence(tagged(0x80, keyId))),
  ]);
}

function certificate(spec: CertificateSpec, extensions: readonly Buffer[]): string {
  const body = sequence(
    tagged(0xa0, unsigned(Buffer.from([2]))), // version 3
    unsigned(serial()),
    ECDSA_SHA256,
    commonName(spec.issuer),
    sequence(time(spec.notBefore), time(spec.notAfter)),
    commonName(spec.subject),
    spkiOf(spec.subjectKey),
    tagged(0xa3, sequence(...extensions)),
  );
  const signature = sign('sha256', body, spec.issuerKey.privateKey);
  const der = sequence(body, ECDSA_SHA256, bits(signature));
  const lines = der.toString('base64').replace(/.{64}/g, '$&\n').trimEnd();
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));

/** 127 random bits and never zero (RFC 5280, 4.1.2.2). */
function serial(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes;
}

const commonName = (text: string): Buffer => sequence(set(sequence(oid('2.5.4.3'), utf8(text))));

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [truth()] : []), octets(value));
}

const dnsName = (name: string): Buffer => tagged(0x82, Buffer.from(name, 'latin1'));

/** Permitted: the names. Excluded: every IPv4 and IPv6 address (RFC 5280, 4.2.1.10: address and mask, all zero). */
function nameConstraints(hosts: readonly string[]): Buffer {
  const permitted = hosts.map((host) => sequence(dnsName(host)));
  const excluded = [8, 32].map((length) => sequence(tagged(0x87, Buffer.alloc(length))));
  return sequence(tagged(0xa0, ...permitted), tagged(0xa1, ...excluded));
}

function subjectKeyIdentifier(key: KeyObject): Buffer {
  return extension('2.5.29.14', false, octets(keyIdentifier(key)));
}

/** RFC 7093, 2 (1): the left 160 bits of the SHA-256 of the key's bits. */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha256').update(spkiOf(key).subarray(-POINT_BYTES)).digest().subarray(0, 20);
}

/** A P-256 point, uncompressed: it ends the key's SubjectPublicKeyInfo. */
const POINT_BYTES = 65;

function spkiOf(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' });
}
