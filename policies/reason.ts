/** What one reason for a refusal means to whoever asked. */
export interface ReasonInfo {
  /** The kind of bad input that it tells apart, as the battery's categories are called. */
  readonly family: Family;
  /** HTTP status of the answer, unless the layer that answers has a better one. */
  readonly status: number;
  /** One sentence for a program's author; names no rule, address or secret. */
  readonly text: string;
}

export type Family =
  | 'host-canonicalisation'
  | 'ip-literal-ssrf'
  | 'dns-rebinding-exfil'
  | 'tls-and-tunnel'
  | 'smuggling-framing'
  | 'header-abuse'
  | 'path-normalisation'
  | 'method'
  | 'datasource-semantics'
  | 's3-sigv4'
  | 'secret-placeholder'
  | 'jwt'
  | 'resource-exhaustion'
  | 'policy'
  | 'upstream';

/**
 * The closed list of reasons why something was refused. They are API: they stand in audit records, answers, metrics and
 * PolicyTests. Add freely, never rename or reuse one.
 */
export const REASONS = {
  // host-canonicalisation: the name and port as written
  host_malformed: at('host-canonicalisation', 400, 'the host is not a valid name'),
  non_ascii_host: at('host-canonicalisation', 400, 'the host has characters outside ASCII'),
  control_char: at('host-canonicalisation', 400, 'the target has a control character or a space'),
  userinfo_forbidden: at('host-canonicalisation', 400, 'the target carries user information'),
  fragment_forbidden: at('host-canonicalisation', 400, 'the target carries a fragment'),
  request_target_malformed: at(
    'host-canonicalisation',
    400,
    'the request target has none of the forms that are accepted here',
  ),
  port_malformed: at('host-canonicalisation', 400, 'the port is missing or not a plain number'),
  host_denied: at('host-canonicalisation', 403, 'the host is on a deny list'),
  host_not_allowed: at('host-canonicalisation', 403, 'no rule allows this host'),
  port_not_allowed: at('host-canonicalisation', 403, 'no rule allows this port of the host'),

  // ip-literal-ssrf: addresses in place of names
  ip_not_allowed: at('ip-literal-ssrf', 403, 'no rule allows this address'),
  ip_forbidden_class: at(
    'ip-literal-ssrf',
    403,
    'the address is of a kind that is never reachable',
  ),
  port_forbidden_class: at('ip-literal-ssrf', 403, 'the port is never reachable'),
  self_connection: at('ip-literal-ssrf', 403, 'the target is the mesh itself'),

  // dns-rebinding-exfil: what a name turned into
  resolved_ip_forbidden: at(
    'dns-rebinding-exfil',
    403,
    'the name leads to an address that must not be reached',
  ),
  resolved_ip_filtered: at(
    'dns-rebinding-exfil',
    403,
    'some addresses of the name must not be reached',
  ),
  dns_failed: at('dns-rebinding-exfil', 502, 'the name could not be resolved'),
  dns_timeout: at('dns-rebinding-exfil', 504, 'the name could not be resolved in time'),
  dns_direct: at('dns-rebinding-exfil', 403, 'name look-ups do not leave the sandbox'),
  doh_blocked: at('dns-rebinding-exfil', 403, 'name look-ups do not leave the sandbox'),
  udp_blocked: at('dns-rebinding-exfil', 403, 'datagrams do not leave the sandbox'),

  // tls-and-tunnel
  sni_mismatch: at('tls-and-tunnel', 403, 'the TLS server name is not the host of the tunnel'),
  sni_missing: at('tls-and-tunnel', 403, 'the TLS hello names no server'),
  ech_unsupported: at('tls-and-tunnel', 403, 'the TLS hello is encrypted (ECH)'),
  host_mismatch: at('tls-and-tunnel', 421, 'the Host header and the target name different hosts'),
  connect_not_allowed: at('tls-and-tunnel', 405, 'CONNECT is not accepted here'),
  protocol_mismatch: at('tls-and-tunnel', 403, 'the tunnel carries something other than TLS'),
  tls_peek_timeout: at('tls-and-tunnel', 408, 'the TLS hello did not come in time'),
  breaker_open: at(
    'resource-exhaustion',
    502,
    'the other side could not be reached lately: wait for Retry-After',
  ),
  upstream_tls: at('tls-and-tunnel', 502, "the other side's certificate is not valid for the host"),
  scheme_not_allowed: at('tls-and-tunnel', 400, 'this scheme is not accepted here'),
  interception_required: at(
    'tls-and-tunnel',
    403,
    'the rule for this host looks at requests, so an opaque tunnel is refused',
  ),

  // smuggling-framing
  cl_and_te: at('smuggling-framing', 400, 'Content-Length and Transfer-Encoding are both given'),
  te_unsupported: at('smuggling-framing', 400, 'the transfer encoding is not plain chunked'),
  te_duplicate: at('smuggling-framing', 400, 'Transfer-Encoding is given more than once'),
  te_http10: at('smuggling-framing', 400, 'HTTP/1.0 has no Transfer-Encoding'),
  cl_conflict: at('smuggling-framing', 400, 'several Content-Length values differ'),
  cl_duplicate: at('smuggling-framing', 400, 'Content-Length is given more than once'),
  cl_invalid: at('smuggling-framing', 400, 'Content-Length is not a plain number'),
  chunk_size: at('smuggling-framing', 400, 'a chunk size is not valid'),
  chunk_line: at('smuggling-framing', 400, 'a chunk does not end where it says'),
  chunk_ext_too_long: at('smuggling-framing', 400, 'chunk extensions are not accepted'),
  trailer_forbidden: at('smuggling-framing', 400, 'a trailer field is not allowed'),
  header_line: at('smuggling-framing', 400, 'a header line is not valid'),
  header_name: at('smuggling-framing', 400, 'a header name is not valid'),
  header_value: at('smuggling-framing', 400, 'a header value is not valid'),
  obs_fold: at('smuggling-framing', 400, 'folded header lines are not accepted'),
  line_ending: at('smuggling-framing', 400, 'lines must end with CR LF'),
  version: at('smuggling-framing', 400, 'the HTTP version is not accepted here'),
  request_line_malformed: at('smuggling-framing', 400, 'the request line is not valid'),
  host_duplicate: at('smuggling-framing', 400, 'Host is given more than once'),
  host_missing: at('smuggling-framing', 400, 'Host is missing'),
  upgrade_with_body: at('smuggling-framing', 400, 'an upgrade must not carry a body'),

  // header-abuse
  upstream_proxy_forbidden: at('header-abuse', 403, 'a further proxy must not be named'),
  header_too_large: at('header-abuse', 431, 'the headers are too large'),
  too_many_headers: at('header-abuse', 431, 'there are too many headers'),
  header_forbidden: at('header-abuse', 403, 'a header is not allowed here'),
  loop_detected: at('header-abuse', 508, 'the request has been here before'),

  // path-normalisation and method
  path_malformed: at('path-normalisation', 400, 'the path is not in its one canonical form'),
  query_malformed: at('path-normalisation', 400, 'the query is not valid'),
  path_not_allowed: at('path-normalisation', 403, 'no rule allows this path of the host'),
  query_not_allowed: at('path-normalisation', 403, 'no rule allows this query'),
  protocol_not_allowed: at('method', 403, 'no rule allows this protocol here'),
  alias_unknown: at('path-normalisation', 404, 'there is no such datasource for this role'),
  datasource_denied: at('path-normalisation', 403, 'the role may not use this datasource'),
  datasource_missing: at(
    'path-normalisation',
    400,
    'name the datasource: /<type>/<name>/... or the header X-Datasource',
  ),
  method_not_allowed: at('method', 405, 'no rule allows this method here'),

  // datasource-semantics
  ch_param_forbidden: at('datasource-semantics', 403, 'a ClickHouse parameter is not allowed'),
  ch_setting_forbidden: at('datasource-semantics', 403, 'a ClickHouse setting is not allowed'),
  ch_split_query: at('datasource-semantics', 400, 'the query is split over URL and body'),
  sql_multi_statement: at('datasource-semantics', 403, 'one statement at a time is allowed'),
  sql_not_readonly: at('datasource-semantics', 403, 'the statement is not a read'),
  sql_function_forbidden: at('datasource-semantics', 403, 'a function is not allowed'),
  sql_setting_forbidden: at('datasource-semantics', 403, 'SETTINGS are not allowed'),
  table_not_granted: at('datasource-semantics', 403, 'a table is not granted'),
  encoded_body_forbidden: at('datasource-semantics', 415, 'an encoded body is not accepted'),
  param_duplicate: at('datasource-semantics', 400, 'a parameter is given more than once'),
  label_not_enforced: at('datasource-semantics', 403, 'the query escapes its enforced labels'),
  upgrade_not_allowed: at('datasource-semantics', 403, 'an upgrade is not allowed here'),
  query_not_understood: at(
    'datasource-semantics',
    403,
    'the query has something that is not understood here, so nobody knows what it would read',
  ),
  query_budget: at('datasource-semantics', 403, 'the query asks for more than is allowed'),
  datasource_unsupported: at(
    'datasource-semantics',
    501,
    'this version does not speak to datasources of this type',
  ),

  // s3-sigv4
  s3_copy_source_forbidden: at('s3-sigv4', 403, 'the copy source is not allowed'),
  s3_subresource_forbidden: at('s3-sigv4', 403, 'the subresource is not allowed'),
  s3_query_forbidden: at('s3-sigv4', 403, 'a query parameter is not allowed'),
  s3_key_not_allowed: at('s3-sigv4', 403, 'the object key is not allowed'),
  s3_prefix_not_allowed: at('s3-sigv4', 403, 'the prefix is not allowed'),
  sigv4_required: at('s3-sigv4', 403, 'the request must be signed'),
  sigv4_scope_forbidden: at('s3-sigv4', 403, 'the signature is for another scope'),
  sigv4_unsigned_amz_header: at('s3-sigv4', 403, 'an x-amz header is not signed'),
  sigv4_chunk_signature: at('s3-sigv4', 403, 'a chunk signature is not valid'),
  sigv4_presigned_forbidden: at('s3-sigv4', 403, 'presigned requests are not accepted'),
  sigv4_date_skew: at('s3-sigv4', 403, 'the date of the signature is off'),

  // secret-placeholder
  secret_egress: at('secret-placeholder', 403, 'the request carries a secret of the mesh'),
  secret_control_char: at('secret-placeholder', 503, 'the secret cannot stand in a header'),
  credential_unavailable: at('secret-placeholder', 503, 'the credential cannot be resolved'),
  binding_ambiguous: at('secret-placeholder', 403, 'more than one credential applies'),

  // jwt
  jwt_missing: at('jwt', 401, 'the execution token is missing'),
  jwt_invalid: at('jwt', 401, 'the token is not valid here'),
  jwt_none: at('jwt', 401, 'the token is not signed'),
  jwt_alg_confusion: at('jwt', 401, 'the algorithm of the token is not accepted'),
  jwt_kid: at('jwt', 401, 'the key of the token is not accepted'),
  jwt_kid_unknown: at('jwt', 401, 'the key of the token is not known'),
  jwt_jku: at('jwt', 401, 'the token names its own key'),
  jwt_x5u: at('jwt', 401, 'the token names its own key'),
  jwt_jwk: at('jwt', 401, 'the token names its own key'),
  jwt_exp: at('jwt', 401, 'the token has expired'),
  jwt_exp_missing: at('jwt', 401, 'the token never expires'),
  jwt_nbf: at('jwt', 401, 'the token is not valid yet'),
  jwt_iat: at('jwt', 401, 'the token comes from the future'),
  jwt_aud: at('jwt', 401, 'the token is for somebody else'),
  jwt_aud_multi: at('jwt', 401, 'the token is for several audiences'),
  jwt_iss: at('jwt', 401, 'the issuer of the token is not trusted'),
  jwt_typ: at('jwt', 401, 'the token is of another type'),
  jwt_crit: at('jwt', 401, 'the token has critical extensions'),
  jwt_b64: at('jwt', 401, 'the payload of the token is not encoded'),
  jwt_dup_json: at('jwt', 401, 'the token repeats a claim'),
  jwt_too_large: at('jwt', 401, 'the token is too large'),
  jwt_encoding: at('jwt', 401, 'the token is not canonical base64url'),
  jwt_sig_zero: at('jwt', 401, 'the signature of the token is not valid'),
  jwt_sig_malleable: at('jwt', 401, 'the signature of the token is not valid'),
  jwt_jti_replay: at('jwt', 401, 'the token was used before'),
  jwt_cnf_mismatch: at('jwt', 401, 'the token is bound to another certificate'),
  jwt_dpop_mismatch: at('jwt', 401, 'the proof does not belong to the token'),
  jwt_dpop_replay: at('jwt', 401, 'the proof was used before'),
  jwt_revoked: at('jwt', 401, 'the execution of the token has ended'),
  jwt_token_location: at('jwt', 401, 'the token stands in the wrong place'),
  jwt_header_duplicate: at('jwt', 401, 'the token is given more than once'),
  jwt_cache_key: at('jwt', 401, 'the token is not valid here'),
  jwt_jwks_unavailable: at('jwt', 503, 'the keys of the issuer cannot be fetched'),

  // resource-exhaustion
  rate_limited: at(
    'resource-exhaustion',
    429,
    'too many requests for the rule: wait for Retry-After',
  ),
  concurrency_limited: at('resource-exhaustion', 429, 'too many requests at once for the rule'),
  budget_exhausted: at('resource-exhaustion', 429, 'the budget is used up'),
  refusal_flood: at('resource-exhaustion', 429, 'many refused requests, recorded as a number'),
  headers_timeout: at('resource-exhaustion', 408, 'the headers did not come in time'),
  body_timeout: at('resource-exhaustion', 408, 'the body did not come in time'),
  backpressure: at('resource-exhaustion', 503, 'the reader is too slow'),
  conn_limit: at('resource-exhaustion', 503, 'too many connections'),
  tunnel_limit: at('resource-exhaustion', 503, 'too many tunnels'),
  idle_timeout: at('resource-exhaustion', 408, 'nothing happened for too long'),
  pipeline_limit: at('resource-exhaustion', 429, 'too many requests in one connection'),
  h2_reset_flood: at('resource-exhaustion', 429, 'too many streams were reset'),
  h2_continuation: at('resource-exhaustion', 431, 'too many CONTINUATION frames'),
  h2_hpack: at('resource-exhaustion', 431, 'the header block is too large'),
  h2_control_flood: at('resource-exhaustion', 429, 'too many control frames'),
  leaf_cache_bound: at('resource-exhaustion', 503, 'too many hosts at once'),
  body_too_large: at('resource-exhaustion', 413, 'the body is larger than the rule allows'),
  decompression_limit: at('resource-exhaustion', 502, 'the body expands too far'),
  decision_abort: at('resource-exhaustion', 503, 'the decision took too long'),
  audit_backpressure: at('resource-exhaustion', 503, 'the audit cannot be written'),
  limiter_fallback: at('resource-exhaustion', 503, 'the shared limits cannot be read'),
  circuit_open: at('resource-exhaustion', 503, 'the other side failed too often just now'),
  emfile: at('resource-exhaustion', 503, 'no more connections can be opened'),
  regex_budget: at('resource-exhaustion', 503, 'a pattern takes too long'),
  yaml_alias: at('resource-exhaustion', 400, 'YAML anchors and aliases are not accepted'),
  no_crash: at('resource-exhaustion', 400, 'the request is not valid'),
  tls_error: at('resource-exhaustion', 400, 'the TLS handshake failed'),

  // policy: the state of the mesh rather than of the request
  no_policy: at('policy', 403, 'no policy names this role'),
  policy_expired: at('policy', 403, 'the rule for this target has expired'),
  policy_mismatch: at('policy', 409, 'sidecar and proxy hold different policies'),
  role_denied: at('policy', 403, 'the role is not one of the principal'),
  not_bound: at('policy', 403, 'no program is bound to this door'),
  draining: at('policy', 503, 'this process is stopping'),
  internal: at('policy', 500, 'a fault of ours'),

  // upstream: allowed, but it did not work
  upstream_unreachable: at('upstream', 502, 'the other side could not be reached'),
  upstream_timeout: at('upstream', 504, 'the other side did not answer in time'),
  upstream_lost: at('upstream', 502, 'the connection to the other side broke'),
  upstream_malformed: at(
    'upstream',
    502,
    'the other side answered with something that is not HTTP',
  ),
  client_gone: at('upstream', 499, 'the caller gave up'),
} as const satisfies Record<string, ReasonInfo>;

export type Reason = keyof typeof REASONS;

/** Whether `text` is in the closed list. */
export function isReason(text: string): text is Reason {
  return Object.hasOwn(REASONS, text);
}

function at(family: Family, status: number, text: string): ReasonInfo {
  return { family, status, text };
}
