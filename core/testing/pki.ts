import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { temporaryDirectory } from './directory.ts';

/** For tests alone. A key and a certificate for 127.0.0.1 that nobody vouches for. */
export function selfSigned(t: Pick<TestContext, 'after'>) {
  const directory = temporaryDirectory(t);
  const [key, certFile] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const named = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  openssl(directory, ['req', '-x509', ...NEW_KEY, '-keyout', key, '-out', certFile, ...named]);
  return { key: readFileSync(key), cert: readFileSync(certFile), certFile };
}

/** For tests alone. An authority and certificates of it, made by openssl, in a directory that is gone after the test. */
export function makePki(t: Pick<TestContext, 'after'>) {
  const directory = temporaryDirectory(t);
  chmodSync(directory, 0o755);
  const path = (name: string) => join(directory, name);
  const files = (name: string) => ['-keyout', `${name}.key`, '-out', `${name}.pem`];
  const authority = (name: string): void =>
    openssl(directory, ['req', '-x509', ...NEW_KEY, '-subj', `/CN=${name}`, ...files(name)]);
  authority('ca');
  return {
    path,
    authority,
    /** A certificate for 127.0.0.1 and localhost, of the authority `ca` unless another is named. */
    issue: (name: string, ca = 'ca') => {
      const argv = [
        ['req', '-x509', ...NEW_KEY, '-subj', `/CN=${name}`],
        ['-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'],
        ['-addext', 'basicConstraints=critical,CA:FALSE'],
        ['-CA', `${ca}.pem`, '-CAkey', `${ca}.key`],
        files(name),
      ];
      openssl(directory, argv.flat());
      chmodSync(path(`${name}.key`), 0o644); // the mesh's user reads it, too
      return { cert: path(`${name}.pem`), key: path(`${name}.key`), ca: path(`${ca}.pem`) };
    },
  };
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];

function openssl(directory: string, argv: readonly string[]): void {
  const { status, stderr } = spawnSync('openssl', argv, { cwd: directory, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}
