import assert from 'node:assert/strict';
import { test } from 'node:test';
import { partEnvironment } from './part-environment.ts';

const env = {
  PATH: '/bin',
  HOME: '/home/x',
  OUTRIDER_GATEWAY_LISTEN: '127.0.0.1:1',
  OUTRIDER_RUNTIME_DIR: '/run/x',
  OUTRIDER_TOKEN: 'a token',
  METRICS_PASSWORD: 'a password',
  SITE: 'here',
};

test('a part gets what it needs and no secret of the shell', () => {
  for (const part of ['gateway', 'server', 'runner', 'sidecar'])
    assert.deepEqual(Object.keys(partEnvironment(part, env)).toSorted(), [
      'HOME',
      'OUTRIDER_GATEWAY_LISTEN',
      'OUTRIDER_RUNTIME_DIR',
      'PATH',
    ]);
});

test('control: the proxy, which resolves secrets, gets the whole', () => {
  assert.deepEqual(partEnvironment('proxy', env), env);
});

test('what the configuration file names is there, also with a default', () => {
  const file = 'gateway: {listen: "${SITE:-x}"}\nproxy: {secretsDir: "${METRICS_PASSWORD}"}\n';
  const given = partEnvironment('gateway', env, file);
  assert.equal(given['SITE'], 'here');
  assert.equal(given['METRICS_PASSWORD'], undefined, 'named in the section of another part');
});
