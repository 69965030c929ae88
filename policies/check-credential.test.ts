import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDocuments } from './check.ts';
import type { AllowRuleSpec, Boundary, Injection } from './document.ts';
import { binding, boundary, documents, egress } from './fixture.ts';
import { formatDocumentPath } from './problem.ts';

// What check.test.ts does not say of bindings: the two that are more than a header.

const SIGV4: Injection = { sigv4: { service: 's3', region: 'eu-central-1' } };
const oauth2 = (tokenUrl: string, grant?: 'client_credentials' | 'refresh_token'): Injection => ({
  oauth2: { tokenUrl, clientId: 'id', ...(grant && { grant }) },
});

/** What is wrong with a rule whose credential is injected so. */
function problemsOf(
  inject: Injection,
  protocols?: AllowRuleSpec['protocols'],
  boundaries: readonly Boundary[] = [],
): string[] {
  const rule: AllowRuleSpec = {
    id: 'api',
    hosts: ['api.example.com'],
    methods: ['GET'],
    paths: 'any',
    credential: 'token',
    ...(protocols && { protocols }),
  };
  const problems = checkDocuments(
    documents({
      egressPolicies: [egress('one', [rule])],
      credentialBindings: [binding('token', ['api.example.com'], { inject })],
      boundaries,
    }),
  );
  return problems.map(({ path, message }) => `${formatDocumentPath(path)}: ${message}`);
}

const NEVER = [
  boundary('org', {
    neverHosts: ['*.example.org'],
    neverCidrs: ['203.0.113.0/24'],
    neverPorts: [25],
    mayHosts: ['*.example.com', '*.example.org'],
  }),
];
const PUBLIC = /oauth2\.tokenUrl: tokens come from a public host that no Boundary forbids/;
const REFUSED: readonly (readonly [what: string, ...Parameters<typeof problemsOf>, RegExp])[] = [
  [
    'a signature over what is sent on as it comes',
    SIGV4,
    ['http1', 'grpc'],
    [],
    /allow\[0\]\.protocols: "token" signs whole requests/,
  ],
  ...['s3express', 's3-outposts', 's3-object-lambda'].map(
    (service) =>
      [
        `a signature for ${service}, which is S3`,
        { sigv4: { service, region: 'eu-central-1' } },
        undefined,
        [],
        /inject\.sigv4\.service: this is the API of S3 by another name/,
      ] as const,
  ),
  ['a signature over HTTP/2 alone', SIGV4, ['http2'], [], /"token" signs whole requests/],
  [
    'a grant that takes a person',
    oauth2('https://id.example.com/t', 'refresh_token'),
    undefined,
    [],
    /inject\.oauth2\.grant: refresh_token is not enforced/,
  ],
  [
    'a token endpoint in clear',
    oauth2('http://id.example.com/t'),
    undefined,
    [],
    /oauth2\.tokenUrl: a client secret goes over https alone/,
  ],
  [
    'a token endpoint that is not canonical',
    oauth2('https://id.example.com/a/../t'),
    undefined,
    [],
    /oauth2\.tokenUrl: the path is not canonical/,
  ],
  ...['https://127.0.0.1/t', 'https://localhost/t', 'https://10.0.0.1/t', 'https://[::1]/t'].map(
    (url) => [`a token endpoint at ${url}`, oauth2(url), undefined, [], PUBLIC] as const,
  ),
  ...[
    'https://id.example.org/t',
    'https://203.0.113.7/t',
    'https://id.example.com:25/t',
    'https://id.example.net/t',
  ].map(
    (url) =>
      [
        `a token endpoint that a Boundary forbids, ${url}`,
        oauth2(url),
        undefined,
        NEVER,
        PUBLIC,
      ] as const,
  ),
];
for (const [what, inject, protocols, boundaries, expected] of REFUSED)
  test(`F1 F3: a binding with ${what} is refused when it is loaded`, () => {
    const problems = problemsOf(inject, protocols, boundaries);
    assert.equal(problems.length, 1, problems.join('\n'));
    assert.match(problems[0] ?? '', expected);
  });

const TAKEN: readonly (readonly [what: string, ...Parameters<typeof problemsOf>])[] = [
  ['a signature', SIGV4],
  ['a signature for another service', { sigv4: { service: 's3tables', region: 'eu-central-1' } }],
  ['a signature where HTTP/2 goes on as HTTP/1.1', SIGV4, ['http1', 'http2']],
  ['a header where gRPC goes on as it comes', { header: 'x', format: '{secret}' }, ['grpc']],
  ['a token that is fetched', oauth2('https://id.example.com/t')],
  [
    'a token that is fetched by the grant that it names',
    oauth2('https://id.example.com/t', 'client_credentials'),
  ],
  [
    'a token that is fetched from where no Boundary looks',
    oauth2('https://id.example.com/t'),
    undefined,
    NEVER,
  ],
];
for (const [what, ...given] of TAKEN)
  test(`control: a binding with ${what} loads`, () => {
    assert.deepEqual(problemsOf(...given), []);
  });
