import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { trustBags, trustStore } from './trust-store.ts';

/** Where a sandbox sees its own directory. */
const INSIDE = '/run/outrider';
/** The sandbox's CA alone, for what adds it to its own list; and the list of this host with it, for what takes no other. */
const OWN = 'ca.pem';
const ALL = 'trust.pem';
const ALL_JAVA = 'trust.p12';
const APT = 'apt.conf';
const WGET = 'wgetrc';

/** Java reads no `https_proxy`, and this before its own command line. */
const JAVA_PROXY = ['http', 'https']
  .flatMap((scheme) => [`-D${scheme}.proxyHost=127.0.0.1`, `-D${scheme}.proxyPort=3128`])
  .concat('-Dhttp.nonProxyHosts=localhost|127.*|[::1]')
  .join(' ');

/** What programs get besides their sandbox's environment where nobody looks into TLS. */
export const OPAQUE_ENV = { JAVA_TOOL_OPTIONS: JAVA_PROXY } as const;

/**
 * The same where it is looked into: what makes programs trust the CA that the sidecar intercepts with. Each variable is one
 * that a known tool reads at its start; a tool that reads none of them takes `SSL_CERT_FILE` as its name for the file to be told.
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
  WGETRC: `${INSIDE}/${WGET}`, // Debian's, by GnuTLS, reads no variable with a list
  JAVA_TOOL_OPTIONS: `${JAVA_PROXY} -Djavax.net.ssl.trustStore=${INSIDE}/${ALL_JAVA} -Djavax.net.ssl.trustStoreType=PKCS12`,
} as const;

/** Lists of CAs that systems keep in one file: Debian and Alpine, Fedora, SUSE. */
const SYSTEM_LISTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
] as const;

/** The CAs that this host trusts, which an opaque tunnel of a sandbox needs, ending in a line break; and the same for Java. */
let ofHost: { readonly pem: string; readonly bags: Buffer } | undefined;

/** Where the host keeps no list, the CAs are those that Node comes with. */
function readHost() {
  const list =
    SYSTEM_LISTS.map(readOrNothing).find((text) => text !== '') ?? rootCertificates.join('\n');
  const pem = `${list}${list.endsWith('\n') ? '' : '\n'}`;
  return { pem, bags: trustBags(pem) };
}

/** Writes what `TRUST_ENV` names into a sandbox's directory, each file whole or not at all: programs of an earlier exec may be reading. */
export function writeTrust(directory: string, caCertificate: string): void {
  ofHost ??= readHost();
  const { pem, bags } = ofHost;
  for (const [name, content] of [
    [OWN, caCertificate],
    [ALL, `${pem}${caCertificate}`],
    [ALL_JAVA, trustStore(bags, trustBags(caCertificate))],
    [APT, `Acquire::https::CAInfo "${INSIDE}/${ALL}";\n`],
    [WGET, `ca_certificate = ${INSIDE}/${ALL}\n`],
  ] as const) {
    const path = join(directory, name);
    writeFileSync(`${path}.new`, content, { mode: 0o644 });
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
