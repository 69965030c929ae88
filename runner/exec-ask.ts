import { formatDuration } from '#core/config';
import { OutriderError } from '#core/errors';
import type { Requirement } from './dependencies.ts';
import { FRAME_MAX_BYTES } from './frames.ts';
import type { NotedExec } from './journal.ts';
import type { Target } from './places.ts';
import { type Program, programOrder, sandboxEnvironment } from './profiles.ts';
import type { RoleLimits } from './role-limits.ts';
import { s3Environment } from './s3-environment.ts';

/** What a caller wants run, checked for form by the service and held against the role by the runner. */
export interface ExecAsk {
  readonly target: Target;
  readonly program: Program;
  readonly role: string;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly files: readonly { path: string; content: Buffer; mode: number }[];
  /** 0: the role's default. */
  readonly timeoutMs: number;
  /** 0: the role's. */
  readonly outputBytes: number;
  /** Where the answer holds less than the role allows, how much of each stream. */
  readonly outputMaxBytes?: number;
  readonly overflow: 'truncate' | 'kill';
  readonly openStdin: boolean;
  readonly requestId: string;
  readonly signal: AbortSignal;
  readonly labels: Readonly<Record<string, string>>;
  readonly purpose: string;
  /** What it is begun under, for the runner's next life. */
  readonly idempotency?: NotedExec['idempotency'];
}

/** What fits one frame to the agent, with room for what is added to an order. */
const ORDER_MAX_BYTES = FRAME_MAX_BYTES - 65_536;

/**
 * The order to start what was asked for, in a sandbox of this profile; `reachesS3`: whether its programs are told where their buckets
 * are. @throws {OutriderError} BODY_TOO_LARGE
 */
export function startOrder(ask: ExecAsk, profile: string, reachesS3: boolean) {
  const start = {
    ...programOrder(ask.program, profile),
    env: { ...s3Environment(reachesS3, ask.env), ...sandboxEnvironment(ask.env, profile) },
    cwd: ask.cwd,
    stdin: ask.openStdin,
  };
  if (Buffer.byteLength(JSON.stringify(start)) > ORDER_MAX_BYTES)
    throw new OutriderError('BODY_TOO_LARGE', 'program, arguments and env are too large together');
  return start;
}

/** How long it may run, and how much it may write. @throws {OutriderError} INVALID_REQUEST where more is asked for than the role allows */
export function boundsOf(
  ask: Pick<ExecAsk, 'timeoutMs' | 'outputBytes' | 'outputMaxBytes'>,
  limits: Pick<RoleLimits, 'timeoutDefaultMs' | 'timeoutMaxMs' | 'outputBytes'>,
): { readonly timeoutMs: number; readonly outputBytes: number } {
  const { timeoutDefaultMs, timeoutMaxMs } = limits;
  const outputMost = Math.min(limits.outputBytes, ask.outputMaxBytes ?? limits.outputBytes);
  return {
    timeoutMs: bounded('timeout', ask.timeoutMs, timeoutDefaultMs, timeoutMaxMs, formatDuration),
    outputBytes: bounded('output.bytes', ask.outputBytes, outputMost, outputMost, String),
  };
}

/** What is to be installed where the target has to be made. */
export function dependenciesOf(target: Target): readonly Requirement[] {
  return target.kind === 'sandbox' ? [] : (target.ask.dependencies ?? []);
}

/** `show`: callers have different units for it, seconds in MCP, and each must find its own in the message. */
function bounded(
  name: string,
  asked: number,
  fallback: number,
  most: number,
  show: (value: number) => string,
): number {
  if (asked > most)
    throw new OutriderError(
      'INVALID_REQUEST',
      `${name} ${show(asked)} is more than the ${show(most)} that is allowed here`,
    );
  return asked > 0 ? asked : fallback;
}
