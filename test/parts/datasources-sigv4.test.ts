import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '#core/package-root';
import { sigv4 } from '#proxy';

// The vectors of AWS for Signature Version 4, in headers and in the query. They are no part of this project: OUTRIDER_VECTORS says where
// they are, by default ../shared/vectors. Without them this fails.

const VECTORS = process.env['OUTRIDER_VECTORS'] ?? join(dirname(packageRoot), 'shared/vectors');
const ROOT = join(VECTORS, 'aws-sigv4/v4');
const NAMES = readdirSync(ROOT);

type Pairs = readonly (readonly [name: string, value: string])[];

/** One vector, read. */
function vectorOf(name: string) {
  const read = (file: string): string =>
    readFileSync(join(ROOT, name, file), 'utf8').replaceAll('\r\n', '\n');
  const context: Readonly<Record<string, unknown>> = JSON.parse(read('context.json'));
  const credentials: Readonly<Record<string, string>> = Object(context['credentials']);
  const time = String(context['timestamp']).replace(/[-:]/g, '');
  return {
    read,
    time,
    token: credentials['token'],
    tokenIsSigned: context['omit_session_token'] !== true,
    bodyIsSigned: context['sign_body'] === true,
    normalize: context['normalize'] === true,
    expires: String(context['expiration_in_seconds']),
    scope: { time, region: String(context['region']), service: String(context['service']) },
    credentials: {
      accessKeyId: credentials['access_key_id'] ?? '',
      secretAccessKey: credentials['secret_access_key'] ?? '',
    },
    ...requestOf(read('request.txt')),
  };
}

function requestOf(text: string) {
  const [head = '', ...rest] = text.split('\n\n');
  const [line = '', ...fields] = head.split(/\n(?![ \t])/);
  const [, method = '', path = '', query = ''] =
    /^(\S+) ([^?]*)\??(.*) HTTP\/1\.1$/.exec(line) ?? [];
  const headers: Pairs = fields
    .filter((field) => field !== '')
    .map((field) => [
      field.slice(0, field.indexOf(':')).toLowerCase(),
      field.slice(field.indexOf(':') + 1),
    ]);
  return { method, path, query: pairsOf(query), headers, body: rest.join('\n\n') };
}

/** As they are meant: the one that is written encoded is decoded. */
function pairsOf(query: string): Pairs {
  return query
    .split('&')
    .filter((part) => part !== '')
    .map((part) => {
      const [name = '', value = ''] = part.split('=');
      return [decodeURIComponent(name), decodeURIComponent(value)];
    });
}

for (const name of NAMES)
  test(`${name}: in headers`, () => {
    const v = vectorOf(name);
    const payload = sigv4.sha256(v.body);
    const headers: Pairs = [
      ...v.headers,
      ['x-amz-date', v.time],
      ...(v.bodyIsSigned ? [['x-amz-content-sha256', payload] as const] : []),
      ...(v.token !== undefined && v.tokenIsSigned
        ? [['x-amz-security-token', v.token] as const]
        : []),
    ];
    const parts = { ...v, headers, payload };
    const canonical = sigv4.canonicalRequest(parts);
    assert.equal(canonical, v.read('header-canonical-request.txt'));
    assert.equal(sigv4.stringToSign(canonical, v.scope), v.read('header-string-to-sign.txt'));
    const signature = v.read('header-signature.txt');
    assert.equal(sigv4.signature(parts, v.scope, v.credentials), signature);
    const signed = v.read('header-signed-request.txt');
    assert.ok(signed.includes(sigv4.authorization(parts, v.scope, v.credentials)));
  });

for (const name of NAMES)
  test(`${name}: in the query`, () => {
    const v = vectorOf(name);
    const names = [...new Set(v.headers.map(([header]) => header))].toSorted();
    const query: Pairs = [
      ...v.query,
      ['X-Amz-Algorithm', sigv4.ALGORITHM],
      ['X-Amz-Credential', `${v.credentials.accessKeyId}/${sigv4.scopeText(v.scope)}`],
      ['X-Amz-Date', v.time],
      ['X-Amz-Expires', v.expires],
      ...(v.token !== undefined && v.tokenIsSigned
        ? [['X-Amz-Security-Token', v.token] as const]
        : []),
      ['X-Amz-SignedHeaders', names.join(';')],
    ];
    const parts = { ...v, query, payload: sigv4.sha256(v.body) };
    const canonical = sigv4.canonicalRequest(parts);
    assert.equal(canonical, v.read('query-canonical-request.txt'));
    assert.equal(sigv4.stringToSign(canonical, v.scope), v.read('query-string-to-sign.txt'));
    assert.equal(sigv4.signature(parts, v.scope, v.credentials), v.read('query-signature.txt'));
  });

test('control: all of them were there, and another key signs otherwise', () => {
  assert.ok(NAMES.length >= 38, `${NAMES.length}`);
  const v = vectorOf('get-vanilla');
  const parts = {
    ...v,
    headers: [...v.headers, ['x-amz-date', v.time] as const],
    payload: sigv4.EMPTY_SHA256,
  };
  const other = sigv4.signature(parts, v.scope, { secretAccessKey: 'other' });
  assert.notEqual(other, v.read('header-signature.txt'));
});
