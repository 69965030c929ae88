import assert from 'node:assert/strict';
import { test } from 'node:test';
import { namesCaller } from './identity-fields.ts';

const CALLERS = `
  authorization cookie dpop forwarded from via sudo api-key x-api-key dd-api-key private-token x-access-token x-gitlab-token
  x-shop-accesstoken x-vault-token x-csrf-token x-auth-key x-user x-user-id x-username user_id x-email x-login x-grafana-user
  x-authenticated-user x-authenticated-userid x-remote-user remote-user impersonate-user impersonate-group x-impersonate-user x-on-behalf-of
  x-tenant-id x-tenant x-grafana-org-id x-account-id x-hasura-role x-roles x-remote-group x-principal x-subject x-identity
  client-ip x-client-ip x-clientip true-client-ip cf-connecting-ip cf-connecting-ipv6 fly-client-ip x-real-ip x-originating-ip
  x-cluster-client-ip x-original-forwarded-for x-forwarded-for x-forwarded-client-cert x-envoy-external-address x-remote-addr ssl-client-cert
  x.forwarded.user x~remote+user api_key x-client-dn x-ms-client-principal-id x-auth-request-email x-jwt-assertion ocp-apim-subscription-key`;
const OTHERS = `
  accept accept-encoding accept-language user-agent x-user-agent content-type content-encoding content-md5 range if-range if-match
  if-none-match cache-control origin referer date depth destination lock-token prefer traceparent tracestate baggage idempotency-key
  sec-websocket-key sec-websocket-protocol mcp-session-id mcp-protocol-version grpc-timeout grpc-encoding grpc-accept-encoding te
  x-prometheus-remote-write-version x-query-tags x-dashboard-uid x-amz-date x-amz-content-sha256 x-clickhouse-format x-clickhouse-user x-clickhouse-key x-scope-orgid
  x-github-api-version anthropic-version git-protocol npm-command x-authors x-ip-limit x-requested-with x-custom`;
const words = (text: string): string[] => text.trim().split(/\s+/);

test('a header that tells who calls is known by its name', () => {
  assert.deepEqual(
    words(CALLERS).filter((name) => !namesCaller(name)),
    [],
  );
});

test('what datasources, gRPC, caches and content negotiation need tells nothing of a caller', () => {
  assert.deepEqual(words(OTHERS).filter(namesCaller), []);
});

test('any number of names is told apart, the second time too', () => {
  for (let round = 0; round < 2; round++)
    for (let at = 0; at < 3_000; at++) {
      assert.ok(namesCaller(`x-user-${at}`));
      assert.ok(!namesCaller(`x-use-${at}`));
    }
});
