/** What a failure means on each wire. */
export interface Failure {
  /** HTTP status. */
  readonly http: number;
  /** Name of the gRPC status code. */
  readonly grpc: GrpcStatusName;
  /** Whether the same call may be sent again without being changed: it was not carried out. False where that is unknown. */
  readonly retryable: boolean;
  /** Exit code of a process that cannot run for this; 1 unless who starts it should tell it from its own faults. */
  readonly exit: number;
  /** What a person should do; becomes docs/errors.md. */
  readonly help: string;
}

export type GrpcStatusName =
  | 'CANCELLED'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'UNAUTHENTICATED';

/**
 * Every code that leaves Outrider. A code is API: add freely, never rename or reuse one.
 * docs/errors.md is made from this table, and a test fails when the two differ.
 */
export const FAILURES = {
  INVALID_REQUEST: f(400, 'INVALID_ARGUMENT', false, 'Change the field that the message names.'),
  UNAUTHENTICATED: f(
    401,
    'UNAUTHENTICATED',
    false,
    'Send a token that is valid for this address; `outrider token` prints the local one.',
  ),
  TOKEN_REVOKED: f(
    401,
    'UNAUTHENTICATED',
    false,
    'The execution that the token belonged to has ended.',
  ),
  INSUFFICIENT_SCOPE: f(
    403,
    'PERMISSION_DENIED',
    false,
    'Ask the issuer for a token with the scope that the challenge names.',
  ),
  HOST_NOT_ALLOWED: f(
    403,
    'PERMISSION_DENIED',
    false,
    'Call by a name listed in `allowedHosts`, or add the name there.',
  ),
  ORIGIN_NOT_ALLOWED: f(
    403,
    'PERMISSION_DENIED',
    false,
    "Add the page's origin to `allowedOrigins`.",
  ),
  EGRESS_DENIED: f(
    403,
    'PERMISSION_DENIED',
    false,
    'The policy does not allow this request; `outrider policy explain` says why.',
  ),
  ROLE_DENIED: f(
    403,
    'PERMISSION_DENIED',
    false,
    'No Role names this principal, or not the role that was asked for.',
  ),
  TOOL_NOT_ALLOWED: f(
    403,
    'PERMISSION_DENIED',
    false,
    'No Role of this principal names the tool in `tools`, or none with these arguments.',
  ),
  ROLE_AMBIGUOUS: f(
    400,
    'FAILED_PRECONDITION',
    false,
    'Several Roles name this principal: say which one in `role`.',
  ),
  QUOTA_EXCEEDED: f(
    429,
    'RESOURCE_EXHAUSTED',
    true,
    'Wait for the time that the answer gives, or delete sandboxes that are not needed.',
  ),
  RUNNER_BUSY: f(
    503,
    'RESOURCE_EXHAUSTED',
    true,
    "All of this runner's places are taken, whoever asks; another runner, or a later try, can do.",
  ),
  RATE_LIMITED: f(429, 'RESOURCE_EXHAUSTED', true, 'Wait for `Retry-After`.'),
  BODY_TOO_LARGE: f(
    413,
    'RESOURCE_EXHAUSTED',
    false,
    'Send a smaller message; the message names the limit.',
  ),
  HEADER_TOO_LARGE: f(431, 'RESOURCE_EXHAUSTED', false, 'Send fewer or smaller headers.'),
  NOT_FOUND: f(404, 'NOT_FOUND', false, 'There is nothing at this address.'),
  METHOD_NOT_ALLOWED: f(
    405,
    'INVALID_ARGUMENT',
    false,
    'Use one of the methods in `Allow`, where there is one, or one that the rule names.',
  ),
  UNSUPPORTED_MEDIA_TYPE: f(
    415,
    'INVALID_ARGUMENT',
    false,
    'Send `Content-Type: application/json`.',
  ),
  EXEC_NOT_FOUND: f(
    404,
    'NOT_FOUND',
    false,
    "The id is unknown, is another caller's, or has been forgotten.",
  ),
  SANDBOX_NOT_FOUND: f(
    404,
    'NOT_FOUND',
    false,
    "The id is unknown, is another caller's, or the sandbox has ended.",
  ),
  SESSION_NOT_FOUND: f(
    404,
    'NOT_FOUND',
    false,
    'The session never was or has ended; start a new one.',
  ),
  SESSION_BUSY: f(409, 'ABORTED', true, 'Another exec runs in this session; wait for its end.'),
  SESSION_EXISTS: f(
    409,
    'ALREADY_EXISTS',
    false,
    'Choose another name, or use the session that has it.',
  ),
  FILE_NOT_FOUND: f(404, 'NOT_FOUND', false, 'There is no such file in the sandbox.'),
  FILE_REFUSED: f(
    403,
    'PERMISSION_DENIED',
    false,
    'The sandbox may not touch that path, or it is not a regular file.',
  ),
  BACKEND_UNAVAILABLE: f(
    503,
    'FAILED_PRECONDITION',
    false,
    'The isolating backend cannot be used; `/readyz` of the runner says what is missing.',
  ),
  BACKEND_TOO_WEAK: f(
    403,
    'FAILED_PRECONDITION',
    false,
    'The role demands a stronger backend than the one asked for.',
  ),
  PROFILE_UNKNOWN: f(
    400,
    'INVALID_ARGUMENT',
    false,
    'Use a profile that the role and the runner both name.',
  ),
  IMAGE_NOT_ALLOWED: f(
    403,
    'PERMISSION_DENIED',
    false,
    "Add the image to the role's and the runner's allowlist.",
  ),
  DEPENDENCY_REFUSED: f(
    403,
    'PERMISSION_DENIED',
    false,
    "Ask for packages that the role's `dependencies` allow, of a manager that the runner is configured for.",
  ),
  DEPENDENCY_FAILED: f(
    424,
    'FAILED_PRECONDITION',
    false,
    'The package manager failed; the message ends with its last lines.',
  ),
  SANDBOX_FAILED: f(
    500,
    'INTERNAL',
    true,
    "The sandbox could not be started or was lost; the runner's log has the cause.",
  ),
  SIDECAR_LOST: f(
    503,
    'ABORTED',
    false,
    'The sidecar of the sandbox ended; nothing left the sandbox after that.',
  ),
  EXEC_LOST: f(
    503,
    'ABORTED',
    false,
    'The runner restarted while the exec ran; run it again if that is safe.',
  ),
  DRAINING: f(503, 'UNAVAILABLE', true, 'This process is stopping; another will answer.'),
  DATASOURCE_MISSING: f(
    400,
    'INVALID_ARGUMENT',
    false,
    'Name the datasource: /<type>/<name>/... or the header X-Datasource.',
  ),
  DATASOURCE_UNKNOWN: f(404, 'NOT_FOUND', false, 'No Datasource document has this type and name.'),
  CREDENTIAL_UNAVAILABLE: f(
    503,
    'UNAVAILABLE',
    true,
    'The proxy cannot resolve the secret that the policy names.',
  ),
  POLICY_MISMATCH: f(
    409,
    'ABORTED',
    true,
    'Sidecar and proxy hold different policies; the call works once both have reloaded.',
  ),
  UPSTREAM_UNREACHABLE: f(502, 'UNAVAILABLE', true, 'The other side could not be reached.'),
  UPSTREAM_UNAVAILABLE: f(
    503,
    'UNAVAILABLE',
    true,
    'Wait for `Retry-After`: every server has failed too often in a row and rests, or takes nothing new.',
  ),
  UPSTREAM_TIMEOUT: f(504, 'DEADLINE_EXCEEDED', true, 'The other side did not answer in time.'),
  UPSTREAM_LOST: f(
    502,
    'ABORTED',
    false,
    'The connection broke while the call ran; whether it took effect is unknown. The gateway says `retryable: true, executed: "unknown"` to MCP clients: call again if that is safe.',
  ),
  ERR_OAUTH_PROVIDER: f(
    503,
    'UNAVAILABLE',
    true,
    'At its start the gateway asks the identity providers of `issuers` that it depends on; one of them could not be reached, or not be trusted.',
    2, // another try may do an hour later, with the same configuration
  ),
  CONFIG_INVALID: f(500, 'FAILED_PRECONDITION', false, 'Change the keys that the message names.'),
  POLICY_UNREVIEWED: f(
    409,
    'FAILED_PRECONDITION',
    false,
    'Commit and merge what is only in the work tree, then bundle it.',
  ),
  POLICY_INVALID: f(
    500,
    'FAILED_PRECONDITION',
    false,
    'Change the lines that the message names; `outrider policy check` repeats the check.',
  ),
  ADDRESS_IN_USE: f(
    500,
    'FAILED_PRECONDITION',
    false,
    'Stop what listens there, or configure another address.',
  ),
  AUDIT_UNAVAILABLE: f(
    503,
    'UNAVAILABLE',
    true,
    'The audit cannot be written, so nothing is let out; free the disk or mend the sink.',
  ),
  AUDIT_GAP: f(
    409,
    'ABORTED',
    true,
    'Send the audit records again from the one after `acknowledged`; the sink has nothing later.',
  ),
  CANCELLED: f(499, 'CANCELLED', false, 'The caller gave up.'),
  DEADLINE_EXCEEDED: f(
    504,
    'DEADLINE_EXCEEDED',
    true,
    'The time that the caller gave was not enough.',
  ),
  UNIMPLEMENTED: f(501, 'UNIMPLEMENTED', false, 'This version does not do that.'),
  INTERNAL: f(
    500,
    'INTERNAL',
    true,
    'A fault of ours; the log has the cause under the request id.',
  ),
} as const satisfies Record<string, Failure>;

export type ErrorCode = keyof typeof FAILURES;

/**
 * A failure with a stable code and a message that any caller may see.
 * Tokens, rules, addresses and what another system said belong in `cause`, which never leaves the process but for the log.
 */
export class OutriderError extends Error {
  override readonly name = 'OutriderError';
  readonly code: ErrorCode;
  /** How long to wait before trying again, in milliseconds, where that is known. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; retryAfterMs?: number | undefined } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAfterMs = options.retryAfterMs;
  }

  get failure(): Failure {
    return FAILURES[this.code];
  }
}

/** Any thrown value as an `OutriderError`: ours as it is, everything else INTERNAL with the original as its cause. */
export function toOutriderError(thrown: unknown): OutriderError {
  return thrown instanceof OutriderError
    ? thrown
    : new OutriderError('INTERNAL', 'internal error', { cause: thrown });
}

/** The public form: what any caller may see of an error, as JSON. */
export function publicError(error: OutriderError): {
  error: { code: ErrorCode; message: string; retryAfterMs?: number };
} {
  const { code, message, retryAfterMs } = error;
  return { error: { code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) } };
}

/** The private form, for the log alone: the chain of causes as text, without stacks. */
export function causeChain(error: unknown): string[] {
  const chain: string[] = [];
  for (let at: unknown = error; at !== undefined && chain.length < 8; ) {
    chain.push(
      at instanceof Error ? `${at.name}: ${at.message}` : typeof at === 'string' ? at : asText(at),
    );
    at = at instanceof Error ? at.cause : undefined;
  }
  return chain;
}

/** Never throws: what is thrown may hold anything, and the log must still be written. */
function asText(value: unknown): string {
  try {
    return JSON.stringify(value) ?? typeof value;
  } catch {
    return `an unprintable ${typeof value}`;
  }
}

function f(
  http: number,
  grpc: GrpcStatusName,
  retryable: boolean,
  help: string,
  exit = 1,
): Failure {
  return { http, grpc, retryable, help, exit };
}
