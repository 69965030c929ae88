import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { OutriderError } from '#core/errors';
import { packageRoot } from '#core/package-root';
import { decide, requestTarget, rolePolicy } from '#policies';
import { loadFiles } from './load.ts';

/**
 * The battery's cases about policy and configuration, by its ids: each is a load error that says why, or, where the file is
 * sound, a decision; those that are about a running process are held by the test that is named.
 */

const ROLE = `apiVersion: outrider/v1
kind: Role
metadata: {name: analyst}
spec: {members: [{issuer: outrider:local}], sandbox: {}}
---
`;
const RULE = '{id: api, hosts: [api.example.com], methods: [GET], paths: any}';
const SOUND = `${ROLE}apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: one}
spec:
  subjects: [{role: analyst}]
  mode: enforce
  allow:
    - ${RULE}
`;

function document(kind: string, name: string, spec: string): string {
  return `---\napiVersion: outrider/v1\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: ${spec}\n`;
}

const BINDING = (name: string, host: string): string =>
  document(
    'CredentialBinding',
    name,
    `{secretRef: env:TOKEN, hosts: [${host}], inject: {header: authorization, format: "Bearer {secret}"}}`,
  );
const USING = RULE.replace('paths: any', 'paths: any, credential: token');

const host = (pattern: string): string => SOUND.replace('api.example.com', pattern);
const range = (cidr: string): string =>
  SOUND.replace('hosts: [api.example.com]', `cidrs: ["${cidr}"]`);

/** Id, what it is, the files, and what the error says. */
const REFUSED: readonly (readonly [id: string, what: string, text: string, says: RegExp])[] = [
  ['Y002', 'a missing allow', SOUND.replace(/ {2}allow:[^]*/, ''), /"allow" is missing/],
  [
    'Y003',
    'an unknown field',
    SOUND.replace('mode:', 'enforcement: off\n  mode:'),
    /unknown field "enforcement"/,
  ],
  [
    'Y004',
    'a key twice',
    SOUND.replace('mode: enforce', 'mode: enforce\n  mode: report'),
    /unique/,
  ],
  [
    'Y005',
    'a quoted boolean',
    SOUND.replace('paths: any', "paths: any, queryStrict: 'true'"),
    /true or false, without quotes/,
  ],
  ['Y006', 'no mode', SOUND.replace('  mode: enforce\n', ''), /"mode" is missing/],
  ['Y007', 'every host', host('"*"'), /host name/],
  ['Y008', 'a wildcard in the middle', host('"api.*.com"'), /host name/],
  [
    'Y008',
    'a wildcard over a top-level domain',
    host('"*.com"'),
    /three behind a wildcard|host name/,
  ],
  ['Y009', 'a host that is not in punycode', host('bücher.example'), /host name/],
  [
    'Y010',
    'an address without a prefix length',
    range('192.0.2.0'),
    /address range|range in its one spelling/,
  ],
  ['Y010', 'a range of mapped addresses', range('::ffff:0:0/96'), /no mapped IPv4/],
  [
    'Y011',
    'a credential for a host that its rules do not reach',
    SOUND.replace(RULE, USING) + BINDING('token', 'other.example.com'),
    /token|other\.example\.com/,
  ],
  ['Y019', 'an include', `include: ../other.yaml\n---\n${SOUND}`, /kind/],
  [
    'Y023',
    'no PolicyTest where the Boundary requires one',
    SOUND + document('Boundary', 'org', '{requireTests: true}'),
    /requires a PolicyTest/,
  ],
  ['Y024', 'an invisible character in a host', host('"api\u200b.example.com"'), /host name/],
  ['Y024', 'a character that turns the text around', host('"api.\u202emoc.example"'), /host name/],
  [
    'K014',
    'two credentials for one request',
    SOUND.replace(RULE, USING) +
      BINDING('token', '"*.example.com"') +
      BINDING('second', 'api.example.com'),
    /overlap|api\.example\.com/,
  ],
];

for (const [id, what, text, says] of REFUSED)
  test(`${id}: ${what} is a load error that says where and why`, () => {
    assert.doesNotThrow(() => load(SOUND), 'control: without it the file loads');
    assert.throws(
      () => load(text),
      (error) => {
        assert.ok(error instanceof OutriderError && error.code === 'POLICY_INVALID', String(error));
        assert.match(error.message, says);
        assert.match(error.message, /^p\.yaml:\d+:\d+: /m);
        return true;
      },
    );
  });

const DECIDED: readonly (readonly [id: string, what: string, text: string, expected: string])[] = [
  [
    'Y001',
    'an empty allow allows nothing',
    SOUND.replace(`\n    - ${RULE}`, ' []'),
    'deny host_not_allowed',
  ],
  [
    'Y017',
    'deny beats allow',
    `${SOUND}  deny: [{id: no, hosts: [api.example.com]}]\n`,
    'deny host_denied',
  ],
  [
    'Y018',
    'a narrow range that is denied inside a wide one',
    `${range('203.0.113.0/24')}  deny: [{id: no, cidrs: [203.0.113.7/32]}]\n`,
    'deny ip_not_allowed',
  ],
  ['Y021', 'no policy at all', ROLE, 'deny no_policy'],
  ['-', 'control: the sound file', SOUND, 'allow'],
  ['-', 'control: the range without its denial', range('203.0.113.0/24'), 'allow'],
];

for (const [id, what, text, expected] of DECIDED)
  test(`${id}: ${what}: ${expected}`, () => {
    const place = text.includes('203.') ? '203.0.113.7' : 'api.example.com';
    const canonical = requestTarget(`GET https://${place}/`);
    assert.ok(canonical.ok);
    const decision = decide(rolePolicy(load(text), 'analyst', ''), canonical.target, Date.now());
    const found = decision.verdict === 'allow' ? 'allow' : `deny ${decision.reason}`;
    assert.equal(found, expected);
  });

const ELSEWHERE: readonly (readonly [id: string, what: string, file: string, title: string])[] = [
  [
    'X012',
    'a secret with a line end is not used',
    'proxy/secrets.test.ts',
    'a line end, which would begin another header',
  ],
  [
    'Y012',
    'a broken file keeps the last good policy',
    'policystore/store.test.ts',
    'a broken file never replaces a good one, is said, and a mended one does',
  ],
  [
    'Y013',
    'nothing but a good policy replaces one',
    'policystore/store.test.ts',
    'a broken file never replaces a good one, is said, and a mended one does',
  ],
  [
    'Y014',
    'what is no longer allowed is cut',
    'proxy/limits.test.ts',
    'a request under way that the policy no longer allows is cut within a second or two',
  ],
  [
    'Y015',
    'a variable that is not set does not become empty',
    'proxy/secrets.test.ts',
    'a variable that is not set',
  ],
  [
    'Y020',
    'a bundle that a stranger signed, or nobody',
    'policystore/bundle.test.ts',
    'a stranger signed',
  ],
  [
    'Y022',
    'a backend that is too weak starts nothing',
    'runner/role-limits.test.ts',
    'a tier above the backend',
  ],
];

for (const [id, what, file, title] of ELSEWHERE)
  test(`${id}: ${what}, as ${file} shows`, () => {
    assert.ok(readFileSync(join(packageRoot, file), 'utf8').includes(title));
  });

function load(text: string) {
  return loadFiles([{ name: 'p.yaml', text }]).set;
}
