import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** An authority and certificates of it, made by openssl, in a directory that is gone after the test. */
export function makePki(t: Pick<TestContext, 'after'>) {
  const directory = mkdtempSync(join(tmpdir(), 'o-pki-'));
  chmodSync(directory, 0o755);
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const openssl = (...argv: readonly string[]) => {
    const { status, stderr } = spawnSync('openssl', argv, { cwd: directory, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const path = (name: string) => join(directory, name);
  const authority = (name: string): void =>
    openssl(
      'req',
      '-x509',
      ...key,
      '-subj',
      `/CN=${name}`,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
    );
  authority('ca');
  return {
    path,
    authority,
    /** A certificate for 127.0.0.1 and localhost, of the authority `ca` unless another is named. */
    issue: (name: string, ca = 'ca') => {
      const argv = [
        ['req', '-x509', ...key, '-subj', `/CN=${name}`],
        ['-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'],
        ['-addext', 'basicConstraints=critical,CA:FALSE'],
        ['-CA', `${ca}.pem`, '-CAkey', `${ca}.key`],
        ['-keyout', `${name}.key`, '-out', `${name}.pem`],
      ];
      openssl(...argv.flat());
      chmodSync(path(`${name}.key`), 0o644); // the mesh's user reads it, too
      return { cert: path(`${name}.pem`), key: path(`${name}.key`), ca: path(`${ca}.pem`) };
    },
  };
}
