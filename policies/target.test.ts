import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Canonical, Target } from './target.ts';
import {
  aliasTarget,
  hostTarget,
  originForm,
  splitAbsoluteForm,
  targetAuthority,
  targetText,
  tunnelTarget,
} from './target.ts';

const LONG = `${'a'.repeat(63)}.`;

const tunnels = [
  // Accepted, and as what.
  ['api.example.com:443', 'api.example.com:443', 'a name and a port'],
  ['API.Example.COM:443', 'api.example.com:443', 'case is folded'],
  ['api.example.com.:443', 'api.example.com:443', 'one trailing dot is removed'],
  ['api_v2.example.com:8443', 'api_v2.example.com:8443', 'an underscore is used in practice'],
  ['xn--bcher-kva.example:443', 'xn--bcher-kva.example:443', 'punycode as it is written'],
  ['203.0.113.7:443', '203.0.113.7:443', 'a dotted quad'],
  ['[2001:DB8::1]:443', '[2001:db8::1]:443', 'an IPv6 address in its shortest form'],
  ['[2001:db8:0:0:0:0:0:1]:443', '[2001:db8::1]:443', 'one address has one spelling'],
  [
    `${LONG.repeat(3)}${'a'.repeat(57)}.com:443`,
    `${LONG.repeat(3)}${'a'.repeat(57)}.com:443`,
    '253 octets',
  ],
  // Refused, and why.
  [`${LONG.repeat(3)}${'a'.repeat(58)}.com:443`, 'host_malformed', '254 octets'],
  [`${'a'.repeat(64)}.com:443`, 'host_malformed', 'a label of 64'],
  ['api..example.com:443', 'host_malformed', 'an empty label'],
  ['.example.com:443', 'host_malformed', 'an empty first label'],
  ['api.example.com..:443', 'host_malformed', 'two trailing dots'],
  ['.:443', 'host_malformed', 'the root'],
  [':443', 'host_malformed', 'no host'],
  ['-a.example.com:443', 'host_malformed', 'a label that begins with a dash'],
  ['a-.example.com:443', 'host_malformed', 'a label that ends with a dash'],
  ['[evil.test]:443', 'host_malformed', 'brackets around a name'],
  ['[[api.example.com]]:443', 'host_malformed', 'double brackets'],
  ['[203.0.113.7]:443', 'host_malformed', 'brackets around a dotted quad'],
  ['[::1]junk:443', 'host_malformed', 'junk behind brackets'],
  ['[2001:db8::1:443', 'port_malformed', 'an open bracket'],
  ['xn--BCHER-KVA\u0301.example:443', 'non_ascii_host', 'punycode with a stray accent'],
  ['ａｐｉ.example.com:443', 'non_ascii_host', 'full-width letters'],
  ['api\u3002example.com:443', 'non_ascii_host', 'an ideographic full stop'],
  ['evil.test\0.example.com:443', 'control_char', 'NUL'],
  ['a.example.com\r\nX: y:443', 'port_malformed', 'CR LF before the port'],
  ['a.example.com\r\n:443', 'control_char', 'CR LF in the name'],
  ['a b.example.com:443', 'control_char', 'a space'],
  ['user@api.example.com:443', 'userinfo_forbidden', 'a user'],
  ['user:pass@api.example.com:443', 'userinfo_forbidden', 'user and password'],
  ['api.example.com#x:443', 'request_target_malformed', 'a fragment'],
  ['api.example.com/x:443', 'request_target_malformed', 'a path'],
  ['api.example.com\\x:443', 'request_target_malformed', 'a backslash'],
  ['evil%2etest:443', 'host_malformed', 'a percent-encoded dot'],
  ['api.example.com', 'port_malformed', 'no port'],
  ['api.example.com:', 'port_malformed', 'an empty port'],
  ['api.example.com:0', 'port_malformed', 'port zero'],
  ['api.example.com:65536', 'port_malformed', 'a port above 65535'],
  ['api.example.com:-1', 'port_malformed', 'a negative port'],
  ['api.example.com:+443', 'port_malformed', 'a signed port'],
  ['api.example.com:0443', 'port_malformed', 'a leading zero'],
  ['api.example.com:https', 'port_malformed', 'a named port'],
  ['api.example.com:443abc', 'port_malformed', 'junk behind the port'],
  ['api.example.com:４４３', 'port_malformed', 'full-width digits'],
  ['api.example.com: 443', 'port_malformed', 'a space before the port'],
  ['api.example.com:80:443', 'port_malformed', 'two ports'],
  ['127.1:443', 'ip_not_allowed', 'a short address'],
  ['127.0.1:443', 'ip_not_allowed', 'three parts'],
  ['2130706433:443', 'ip_not_allowed', 'a decimal address'],
  ['0x7f000001:443', 'ip_not_allowed', 'a hexadecimal address'],
  ['0x7f.1:443', 'ip_not_allowed', 'a mixed address'],
  ['0177.0.0.1:443', 'ip_not_allowed', 'an octal part'],
  ['127.0.0.0x1:443', 'ip_not_allowed', 'a hexadecimal part'],
  ['256.0.0.1:443', 'ip_not_allowed', 'a part above 255'],
  ['1.2.3.4.5:443', 'ip_not_allowed', 'five parts'],
  ['example.123:443', 'ip_not_allowed', 'a name that ends in a number'],
  ['203.0.113.7.:443', 'ip_not_allowed', 'an address with a trailing dot'],
  ['[::ffff:127.0.0.1]:443', 'ip_not_allowed', 'a mapped address'],
  ['[0:0:0:0:0:ffff:127.0.0.1]:443', 'ip_not_allowed', 'a mapped address, written out'],
  [
    '[::ffff:cb00:7107]:443',
    'ip_not_allowed',
    'a mapped address, even a public one: it has another spelling',
  ],
  ['[::127.0.0.1]:443', 'ip_not_allowed', 'a compatible address'],
  ['[64:ff9b::7f00:1]:443', 'ip_not_allowed', 'NAT64'],
  ['[2002:7f00:1::]:443', 'ip_not_allowed', '6to4'],
  ['[2001:0:7f00:1::80ff:fffe]:443', 'ip_not_allowed', 'Teredo'],
  ['[fe80::1%25lo]:443', 'ip_not_allowed', 'a zone'],
  ['[fe80::1%lo]:443', 'ip_not_allowed', 'a zone, not encoded'],
  ['prometheus-main.outrider.internal:80', 'connect_not_allowed', 'a datasource is no tunnel'],
] as const;
for (const [authority, expected, why] of tunnels) {
  test(`CONNECT ${JSON.stringify(authority).slice(0, 60)} is ${expected.slice(0, 40)}: ${why}`, () => {
    assert.equal(shown(tunnelTarget(authority)), expected);
  });
}

const paths = [
  ['/', '/'],
  ['/v1/ok', '/v1/ok'],
  ['/v1/ok/', '/v1/ok/'],
  ['/V1/OK', '/V1/OK'],
  ['/a~b/c.d/e-f/$&+,=:@', '/a~b/c.d/e-f/$&+,=:@'],
  ['/caf%C3%A9', '/caf%C3%A9'],
  ['/a%20b', '/a%20b'],
  ['/a%3Fb', '/a%3Fb'],
  ['/...', '/...'],
  ['/v1/../admin', 'path_malformed'],
  ['/./admin', 'path_malformed'],
  ['/v1/..', 'path_malformed'],
  ['/v1/%2e%2e/admin', 'path_malformed'],
  ['/v1/%2E%2E/admin', 'path_malformed'],
  ['/v1/.%2e/admin', 'path_malformed'],
  ['/v1/%252e%252e/admin', 'path_malformed'],
  ['/v1/..%2fadmin', 'path_malformed'],
  ['/v1/..%2Fadmin', 'path_malformed'],
  ['/v1/a%2Fb', 'path_malformed'],
  ['/v1/..%5cadmin', 'path_malformed'],
  ['/v1/a%5Cb', 'path_malformed'],
  ['/v1/..\\admin', 'path_malformed'],
  ['/v1//admin', 'path_malformed'],
  ['//evil.test/x', 'path_malformed'],
  ['/v1//', 'path_malformed'],
  ['/v1/..;foo=bar/admin', 'path_malformed'],
  ['/admin;x=y', 'path_malformed'],
  ['/admin%3Bx', 'path_malformed'],
  ['/v1/%00/admin', 'path_malformed'],
  ['/v1/%0d%0aX:%20y', 'path_malformed'],
  ['/v1/%0D%0AX', 'path_malformed'],
  ['/v1/%7F', 'path_malformed'],
  ['/v1/%C2%85', 'path_malformed'],
  ['/v1/%c0%ae%c0%ae/admin', 'path_malformed'],
  ['/v1/%C0%AE', 'path_malformed'],
  ['/v1/%ED%A0%80', 'path_malformed'],
  ['/v1/%C3', 'path_malformed'],
  ['/v1/%41dmin', 'path_malformed'],
  ['/v1/%c3%a9', 'path_malformed'],
  ['/v1/%', 'path_malformed'],
  ['/v1/%zz', 'path_malformed'],
  ['/v1/%u0041', 'path_malformed'],
  ['/v1/∕admin', 'path_malformed'],
  ['/v1/a b', 'path_malformed'],
  ['/v1/a\tb', 'path_malformed'],
  ['/v1/"x"', 'path_malformed'],
  ['/v1/{x}', 'path_malformed'],
  ['/v1/ok#/../admin', 'fragment_forbidden'],
  [`/${'a'.repeat(8191)}`, `/${'a'.repeat(8191)}`],
  [`/${'a'.repeat(8192)}`, 'path_malformed'],
  ['v1/ok', 'request_target_malformed'],
  ['*', 'request_target_malformed'],
  ['', 'request_target_malformed'],
  ['/a?x=/../y&z=%2e', '/a?x=/../y&z=%2e'],
  ['/a?', '/a?'],
  ['/a?x=é', 'query_malformed'],
  ['/a?x=\r\n', 'query_malformed'],
  ['/a?x y', 'query_malformed'],
  ['/a?x#y', 'fragment_forbidden'],
  ['/a?host_denied', '/a?host_denied'],
] as const;
for (const [path, expected] of paths) {
  test(`the path ${JSON.stringify(path).slice(0, 60)} is ${expected === path ? 'taken as it is' : expected}`, () => {
    const canonical = hostTarget({
      scheme: 'https',
      authority: 'api.example.com',
      method: 'GET',
      path,
    });
    assert.equal(canonical.ok ? originForm(canonical.target as never) : canonical.reason, expected);
    const alias = aliasTarget({ method: 'GET', path: path.replace(/^\//, '/http/api/') });
    if (path.startsWith('/') && path.length < 8000) {
      assert.equal(
        alias.ok ? originForm(alias.target) : alias.reason,
        expected,
        'an alias is read alike',
      );
    }
  });
}

const methods = [
  ['GET', true],
  ['DELETE', true],
  ['OPTIONS', true],
  ['get', false],
  ['TRACE', false],
  ['TRACK', false],
  ['CONNECT', false],
  ['PRI', false],
  ['A'.repeat(40), false],
  ['GET ', false],
  ['', false],
] as const;
for (const [method, ok] of methods) {
  test(`the method ${JSON.stringify(method)} is ${ok ? 'known' : 'refused'}`, () => {
    const canonical = hostTarget({
      scheme: 'https',
      authority: 'api.example.com',
      method,
      path: '/',
    });
    assert.equal(canonical.ok ? 'ok' : canonical.reason, ok ? 'ok' : 'method_not_allowed');
  });
}

const absolutes = [
  ['http://api.example.com/v1/ok', 'http://api.example.com/v1/ok'],
  ['http://api.example.com', 'http://api.example.com/'],
  ['HTTP://API.example.com:80/a', 'http://api.example.com/a'],
  ['http://api.example.com.:080/', 'port_malformed'],
  ['http://api.example.com:8080/a', 'http://api.example.com:8080/a'],
  ['https://api.example.com:443/a', 'https://api.example.com/a'],
  ['https://api.example.com:80/a', 'https://api.example.com:80/a'],
  ['http://api.example.com?@evil.test/', 'request_target_malformed'],
  ['http://api.example.com#@evil.test/', 'fragment_forbidden'],
  ['http://api.example.com\\@evil.test/', 'userinfo_forbidden'],
  ['http://api.example.com\\.evil.test/', 'request_target_malformed'],
  ['http://evil.test@api.example.com/', 'userinfo_forbidden'],
  ['http:///v1/ok', 'host_malformed'],
  ['http:/api.example.com/', 'request_target_malformed'],
  ['http:api.example.com/', 'request_target_malformed'],
  ['file:///etc/passwd', 'scheme_not_allowed'],
  ['gopher://api.example.com/_x', 'scheme_not_allowed'],
  ['unix:/run/docker.sock:/info', 'scheme_not_allowed'],
  ['http+unix://%2Frun%2Fdocker.sock/info', 'scheme_not_allowed'],
  ['/v1/ok', 'request_target_malformed'],
  ['//api.example.com/', 'request_target_malformed'],
  [' http://api.example.com/', 'request_target_malformed'],
  ['http://prometheus-main.outrider.internal/api/v1/query', 'prometheus/main/api/v1/query'],
  ['http://Prometheus-MAIN.Outrider.Internal.:80/', 'prometheus/main/'],
  ['http://s3-a-b-c.outrider.internal/k', 's3/a-b-c/k'],
  ['https://prometheus-main.outrider.internal/', 'alias_unknown'],
  ['http://prometheus-main.outrider.internal:81/', 'alias_unknown'],
  ['http://mysql-main.outrider.internal/', 'alias_unknown'],
  ['http://prometheus.outrider.internal/', 'alias_unknown'],
  ['http://prometheus-.outrider.internal/', 'host_malformed'],
  ['http://x.prometheus-main.outrider.internal/', 'alias_unknown'],
  ['http://outrider.internal/', 'alias_unknown'],
] as const;
for (const [text, expected] of absolutes) {
  test(`absolute form ${text} is ${expected}`, () => {
    const form = splitAbsoluteForm(text);
    assert.equal(form.ok ? shown(hostTarget({ ...form, method: 'GET' })) : form.reason, expected);
  });
}

const aliases = [
  ['/prometheus/main/api/v1/query?query=up', undefined, 'prometheus/main/api/v1/query'],
  ['/prometheus/main', undefined, 'prometheus/main/'],
  ['/prometheus/main/', undefined, 'prometheus/main/'],
  ['/prometheus/api/v1/query', 'main', 'prometheus/main/api/v1/query'],
  ['/prometheus', 'main', 'prometheus/main/'],
  ['/prometheus/main/api', 'main', 'prometheus/main/main/api'],
  ['/prometheus', undefined, 'datasource_missing'],
  ['/prometheus/', undefined, 'datasource_missing'],
  ['/prometheus/api', '', 'datasource_missing'],
  ['/', undefined, 'datasource_missing'],
  ['/mysql/main', undefined, 'alias_unknown'],
  ['/Prometheus/main', undefined, 'alias_unknown'],
  ['/prometheus/Main', undefined, 'alias_unknown'],
  ['/prometheus/api', 'main/../other', 'alias_unknown'],
  ['/prometheus/api', 'main, other', 'alias_unknown'],
  ['*', undefined, 'request_target_malformed'],
] as const;
for (const [path, datasourceHeader, expected] of aliases) {
  test(`origin form ${path} with X-Datasource ${datasourceHeader} is ${expected}`, () => {
    assert.equal(shown(aliasTarget({ method: 'GET', path, datasourceHeader })), expected);
  });
}

test('the three spellings of a datasource give one and the same target', () => {
  const byPath = aliasTarget({ method: 'GET', path: '/loki/logs/a/b?x=1' });
  const byHeader = aliasTarget({ method: 'GET', path: '/loki/a/b?x=1', datasourceHeader: 'logs' });
  const byHost = hostTarget({
    scheme: 'http',
    authority: 'loki-logs.outrider.internal',
    method: 'GET',
    path: '/a/b?x=1',
  });
  assert.deepEqual(byPath, byHeader);
  assert.deepEqual(byPath, byHost);
});

test('Host is written without the default port of the scheme, and with the port of a tunnel', () => {
  const authority = (scheme: 'http' | 'https', text: string) => {
    const canonical = hostTarget({ scheme, authority: text, method: 'GET', path: '/' });
    assert.ok(canonical.ok && canonical.target.kind === 'host');
    return targetAuthority(canonical.target);
  };
  assert.equal(authority('https', 'a.example.com:443'), 'a.example.com');
  assert.equal(authority('http', 'a.example.com:443'), 'a.example.com:443');
  assert.equal(authority('https', '[2001:db8::1]:8443'), '[2001:db8::1]:8443');
  const tunnel = tunnelTarget('a.example.com:443');
  assert.ok(tunnel.ok);
  assert.equal(targetAuthority(tunnel.target), 'a.example.com:443');
});

function shown(canonical: Canonical<Target>): string {
  return canonical.ok ? targetText(canonical.target) : canonical.reason;
}
