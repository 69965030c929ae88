import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Certificate and key, as files. */
export type Pair = readonly [certificate: string, key: string];

/** The certificates of the origins: an authority of the harness that the proxy is told to trust, and what it signed. */
export interface Certificates {
  readonly authorityFile: string;
  readonly usual: Pair;
  /** What a wrong origin shows, by the name that cases call it; undefined for a name that nobody knows. */
  readonly wrong: (kind: string) => Pair | undefined;
}

/** What is odd about a certificate. */
interface Oddity {
  readonly altNames?: string;
  readonly expired?: boolean;
  readonly selfSigned?: boolean;
}

const ODDITIES: Readonly<Record<string, Oddity>> = {
  'wrong-host': { altNames: 'DNS:somebody.else.test' },
  // GeneralNames with one dNSName: "cred.allowed.test\0.evil.test"
  'nul-in-san': { altNames: `DER:${nulName('cred.allowed.test\0.evil.test')}` },
  expired: { expired: true },
  'self-signed': { selfSigned: true },
  'untrusted-ca': { selfSigned: true },
  'no-san': { altNames: '' },
  'ip-san': { altNames: 'IP:203.0.113.14' },
  'wildcard-wrong-level': { altNames: 'DNS:*.test' },
};

/** Makes them in a directory with openssl. `names`: of the usual one. */
export function makeCertificates(directory: string, names: readonly string[]): Certificates {
  const authority = path(directory, 'authority');
  run(
    'req',
    '-x509',
    ...EC,
    '-days',
    '2',
    '-subj',
    '/CN=battery',
    '-keyout',
    authority[1],
    '-out',
    authority[0],
  );
  const altNames = names.map((name) => `DNS:${name}`).join(',');
  const make = (name: string, oddity: Oddity): Pair =>
    sign(directory, name, authority, { altNames, ...oddity });
  return {
    authorityFile: authority[0],
    usual: make('usual', {}),
    wrong(kind) {
      const oddity = ODDITIES[kind];
      return oddity && make(kind, oddity);
    },
  };
}

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

function sign(directory: string, name: string, authority: Pair, oddity: Oddity): Pair {
  const [certificate, key] = path(directory, name);
  const request = join(directory, `${name}.csr`);
  const extensions = join(directory, `${name}.ext`);
  run('req', ...EC, '-subj', `/CN=${name}`, '-keyout', key, '-out', request);
  writeFileSync(
    extensions,
    oddity.altNames ? `subjectAltName=${oddity.altNames}\n` : 'basicConstraints=CA:FALSE\n',
  );
  const files = ['-in', request, '-extfile', extensions, '-out', certificate];
  const signer = oddity.selfSigned
    ? ['-signkey', key]
    : ['-CA', authority[0], '-CAkey', authority[1], '-CAcreateserial'];
  if (oddity.expired) signForThePast(directory, authority, files);
  else run('x509', '-req', '-days', '2', ...signer, ...files);
  return [certificate, key];
}

/** Only `openssl ca` does. */
function signForThePast(directory: string, authority: Pair, files: readonly string[]): void {
  const [config, database] = [join(directory, 'ca.cnf'), join(directory, 'index.txt')];
  const settings = {
    new_certs_dir: directory,
    database,
    rand_serial: 'yes',
    default_md: 'sha256',
    policy: 'p',
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  writeFileSync(database, '');
  writeFileSync(
    config,
    ['[ca]', 'default_ca=d', '[d]', ...lines, '[p]', 'commonName=supplied', ''].join('\n'),
  );
  const dates = ['-startdate', '20200101000000Z', '-enddate', '20200102000000Z'];
  const signer = ['-cert', authority[0], '-keyfile', authority[1]];
  run('ca', '-batch', '-notext', '-config', config, ...signer, ...dates, ...files);
}

function nulName(name: string): string {
  const bytes = Buffer.from(name, 'latin1');
  const dns = Buffer.concat([Buffer.from([0x82, bytes.length]), bytes]);
  return Buffer.concat([Buffer.from([0x30, dns.length]), dns]).toString('hex');
}

function path(directory: string, name: string): Pair {
  return [join(directory, `${name}.pem`), join(directory, `${name}.key`)];
}

function run(...argv: readonly string[]): void {
  execFileSync('openssl', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
}
