import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';

/** Where a sandbox sees its own directory. */
const INSIDE = '/run/outrider';
/** The sandbox's CA alone, for what adds it to its own list; and the list of this host with it, for what takes no other. */
const OWN = 'ca.pem';
const ALL = 'trust.pem';
const APT = 'apt.conf';

/**
 * What makes a sandbox's programs trust the CA that its sidecar intercepts with. Each variable is one that a known tool reads at its
 * start; a tool that reads none of them takes `SSL_CERT_FILE` as its name for the file to be told.
 */
export const TRUST_ENV = {
  SSL_CERT_FILE: `${INSIDE}/${ALL}`, // OpenSSL, and by it Python; Go; Ruby; rustls' native certificates
  CURL_CA_BUNDLE: `${INSIDE}/${ALL}`,
  REQUESTS_CA_BUNDLE: `${INSIDE}/${ALL}`,
  PIP_CERT: `${INSIDE}/${ALL}`,
  GIT_SSL_CAINFO: `${INSIDE}/${ALL}`,
  AWS_CA_BUNDLE: `${INSIDE}/${ALL}`,
  CARGO_HTTP_CAINFO: `${INSIDE}/${ALL}`,
  GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: `${INSIDE}/${ALL}`,
  NODE_EXTRA_CA_CERTS: `${INSIDE}/${OWN}`,
  APT_CONFIG: `${INSIDE}/${APT}`,
} as const;

/** Lists of CAs that systems keep in one file: Debian and Alpine, Fedora, SUSE. */
const SYSTEM_LISTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
] as const;

let hostList: string | undefined;

/** The CAs that this host trusts, which an opaque tunnel of a sandbox needs; where it keeps no list, those that Node comes with. */
function listOfHost(): string {
  hostList ??=
    SYSTEM_LISTS.map(readOrNothing).find((text) => text !== '') ?? rootCertificates.join('\n');
  return hostList;
}

/** Writes what `TRUST_ENV` names into a sandbox's directory, each file whole or not at all: programs of an earlier exec may be reading. */
export function writeTrust(directory: string, caCertificate: string): void {
  const apt = `Acquire::https::CAInfo "${INSIDE}/${ALL}";\n`;
  const list = listOfHost();
  const all = `${list}${list.endsWith('\n') ? '' : '\n'}${caCertificate}`;
  for (const [name, text] of [
    [OWN, caCertificate],
    [ALL, all],
    [APT, apt],
  ] as const) {
    const path = join(directory, name);
    writeFileSync(`${path}.new`, text, { mode: 0o644 });
    renameSync(`${path}.new`, path);
  }
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
