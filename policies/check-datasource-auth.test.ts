import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDocuments } from './check.ts';
import type { DatasourceSpec, DatasourceType } from './document.ts';
import { boundary, datasource, documents } from './fixture.ts';
import { formatDocumentPath } from './problem.ts';

const secretRef = 'file:secret';
const LOCAL = { allowLoopback: true, endpoint: 'http://127.0.0.1:9000/bucket' };
const oauth2 = (tokenUrl: string, more: Partial<DatasourceSpec> = {}): Partial<DatasourceSpec> => ({
  auth: { type: 'oauth2', tokenUrl, clientId: 'id' },
  secretRef,
  ...more,
});

function problemsOf(type: DatasourceType, spec: Partial<DatasourceSpec>): string[] {
  const problems = checkDocuments(
    documents({
      datasources: [datasource(type, 'main', spec)],
      boundaries: [boundary('org', { mayLoopbackDatasources: true })],
    }),
  );
  return problems.map(({ path, message }) => `${formatDocumentPath(path)}: ${message}`);
}

const REFUSED: readonly (readonly [DatasourceType, Partial<DatasourceSpec>, RegExp])[] = [
  ['loki', { auth: { type: 'query', name: 'key' }, secretRef }, /auth\.type: "query" is for http$/],
  ['http', { auth: { type: 'sigv4', region: 'a' }, secretRef }, /auth\.type: "sigv4" is for s3$/],
  ['s3', { auth: { type: 'bearer' }, secretRef }, /auth\.type: S3 takes `sigv4`/],
  ['s3', oauth2('https://id.example.com/t'), /auth\.type: S3 takes `sigv4`/],
  ['http', { auth: { type: 'header', name: 'host' }, secretRef }, /auth\.name: this header frames/],
  ['http', { tenant: 'a' }, /tenant: this is for prometheus and loki/],
  ['http', { publicUrlPrefix: 'https://cdn.example.com/' }, /publicUrlPrefix: this is for s3/],
  ['http', oauth2('http://id.example.com/t'), /tokenUrl: a client secret goes over https alone/],
  ['http', oauth2('https://127.0.0.1/t'), /tokenUrl: this is loopback: say `allowLoopback: true`/],
  ['http', oauth2('https://localhost/t'), /tokenUrl: this is loopback/],
  ['http', oauth2('https://id.example.com/a/../t'), /tokenUrl: the path is not canonical/],
  [
    'http',
    { endpoint: 'http://api.example.com', tls: { ca: '-----BEGIN CERTIFICATE-----' } },
    /tls: the endpoint is http/,
  ],
  // F3: what is said to be remote is not on this machine.
  ['s3', { endpoint: 'http://localhost:9000/bucket' }, /endpoint: this is loopback: say/],
  ['s3', { endpoint: 'https://[::1]:9000/bucket' }, /endpoint: this is loopback: say/],
  ['s3', { endpoint: 'http://127.0.0.1:9000/bucket' }, /endpoint: this is loopback: say/],
];
for (const [type, spec, expected] of REFUSED)
  test(`F3: a Datasource of type ${type} with ${JSON.stringify(spec)} is refused when it is loaded`, () => {
    const problems = problemsOf(type, spec);
    assert.equal(problems.length, 1, problems.join('\n'));
    assert.match(problems[0] ?? '', expected);
  });

const TAKEN: readonly (readonly [DatasourceType, Partial<DatasourceSpec>])[] = [
  ['http', { auth: { type: 'query', name: 'key' }, secretRef }],
  ['s3', { auth: { type: 'sigv4', region: 'eu-central-1' }, secretRef, ...LOCAL }],
  ['s3', { auth: { type: 'none' }, publicUrlPrefix: 'https://cdn.example.com/' }],
  ['loki', { tenant: 'acme', ...oauth2('https://id.example.com/token') }],
  ['http', oauth2('http://127.0.0.1:8080/t', LOCAL)],
  ['http', { tls: { clientCertificateRef: 'file:pem' } }],
];
for (const [type, spec] of TAKEN)
  test(`control: a Datasource of type ${type} with ${JSON.stringify(spec)} is taken`, () => {
    assert.deepEqual(problemsOf(type, spec), []);
  });
