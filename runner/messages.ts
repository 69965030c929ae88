import { createHash } from 'node:crypto';
import { OutriderError } from '#core/errors';
import {
  type Attestation as AttestationMessage,
  type Duration,
  type ExecEnd,
  type ExecSpec,
  type ExecStarted,
  IsolationTier,
  KilledBy,
  OutputOverflow,
  type ResourceLimits as ResourceLimitsMessage,
  type Sandbox as SandboxMessage,
  type SandboxSpec,
  SandboxState,
} from '#proto';
import type { Attestation, ResourceLimits, Tier } from './backends/backend.ts';
import type { KilledBy as Cause, Ending } from './exec.ts';
import type { Target } from './places.ts';
import type { Program } from './profiles.ts';
import type { SandboxAsk } from './role-limits.ts';
import { type ExecAsk, type ExecFacts, NOTHING_ASKED } from './runner.ts';
import type { Kept } from './sessions.ts';

/** The generated messages and our own types, one into the other; nothing else in the runner knows the wire. */

const CAUSES: Readonly<Record<Cause, KilledBy>> = {
  exit: KilledBy.EXIT,
  signal: KilledBy.SIGNAL,
  timeout: KilledBy.TIMEOUT,
  oom: KilledBy.OOM,
  pids: KilledBy.PIDS,
  disk: KilledBy.DISK,
  output: KilledBy.OUTPUT,
  policy: KilledBy.POLICY,
  disconnect: KilledBy.DISCONNECT,
  runner: KilledBy.RUNNER,
};
const TIER: Readonly<Record<Tier, IsolationTier>> = {
  namespaces: IsolationTier.NAMESPACES,
  container: IsolationTier.CONTAINER,
  gvisor: IsolationTier.GVISOR,
};
const SESSION_NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** @throws {OutriderError} INVALID_REQUEST, UNIMPLEMENTED */
export function execAsk(
  spec: ExecSpec | undefined,
  call: { requestId: string; signal: AbortSignal },
): ExecAsk {
  if (!spec) throw invalid('spec is missing');
  refuse(spec.terminal, 'terminal');
  refuse(spec.contextId, 'context_id');
  refuse(spec.idempotencyKey, 'idempotency_key');
  refuse(spec.detachGrace, 'detach_grace');
  const cwd = spec.workingDirectory || '/workspace';
  if (!cwd.startsWith('/') || cwd.includes('\0') || cwd.split('/').includes('..'))
    throw invalid('working_directory must be an absolute path without ".."');
  return {
    target: targetOf(spec),
    program: programOf(spec),
    role: spec.role,
    env: spec.env,
    cwd,
    files: spec.files.map(({ path, content, mode }) => ({
      path: relativePath(path),
      content,
      mode: mode || 0o644,
    })),
    timeoutMs: durationMs(spec.timeout),
    outputBytes: Number(spec.output?.bytes ?? 0n),
    overflow: spec.output?.overflow === OutputOverflow.KILL ? 'kill' : 'truncate',
    openStdin: spec.openStdin || spec.stdin.length > 0,
    requestId: call.requestId,
    signal: call.signal,
  };
}

/** @throws {OutriderError} INVALID_REQUEST, UNIMPLEMENTED */
export function sandboxAsk(spec: SandboxSpec | undefined): SandboxAsk {
  if (!spec) return NOTHING_ASKED;
  refuse(spec.checkpointId, 'checkpoint_id');
  if (spec.image) throw new OutriderError('IMAGE_NOT_ALLOWED', 'this backend has no images');
  if (spec.dependencies.length > 0)
    throw new OutriderError('UNIMPLEMENTED', 'dependencies are not implemented in this version');
  if (spec.idleTimeout || spec.maxLifetime)
    throw new OutriderError(
      'UNIMPLEMENTED',
      'idle_timeout and max_lifetime come from the role in this version',
    );
  const { memoryBytes = 0n, cpuMillis = 0, pids = 0, diskBytes = 0n } = spec.limits ?? {};
  const tier = (Object.keys(TIER) as Tier[]).find((name) => TIER[name] === spec.minimumTier); // oxlint-disable-line typescript/no-unsafe-type-assertion -- the keys of a record by Tier
  return {
    profile: spec.profile,
    backend: spec.backend,
    minimumTier: tier,
    resources: { memoryBytes: Number(memoryBytes), cpuMillis, pids, diskBytes: Number(diskBytes) },
  };
}

/** A session's name as it may be given. @throws {OutriderError} INVALID_REQUEST */
export function sessionName(name: string): string {
  if (!SESSION_NAME.test(name)) throw invalid('a session name is 1 to 64 of A-Z a-z 0-9 . _ -');
  return name;
}

export function startedMessage(
  { attestation, ...facts }: ExecFacts,
  runnerId: string,
): ExecStarted {
  return {
    ...facts,
    attestation: attestationMessage(attestation),
    runnerId,
    policyCommit: '',
    policySerial: 0n,
  };
}

export function endMessage(ending: Ending): ExecEnd {
  const { egress } = ending;
  return {
    killedBy: CAUSES[ending.killedBy],
    exitCode: ending.exitCode,
    signal: ending.signal,
    usage: {
      wall: durationOf(ending.wallMs),
      cpu: durationOf(ending.cpuMs),
      maxRssBytes: BigInt(Math.round(ending.maxRssBytes)),
      queued: undefined,
    },
    stdout: account(ending.stdout),
    stderr: account(ending.stderr),
    exception: ending.exception,
    artefacts: ending.artefacts.map(({ path, size, content }) => ({
      path,
      size: BigInt(size),
      sha256: content.length === size ? createHash('sha256').update(content).digest('hex') : '',
      content: content.length === size ? content : Buffer.alloc(0),
    })),
    egress: {
      allowed: BigInt(egress.allowed),
      denied: BigInt(egress.denied),
      limited: BigInt(egress.limited),
      failed: BigInt(egress.failed),
      bytesOut: BigInt(egress.bytesOut),
      bytesIn: BigInt(egress.bytesIn),
    },
    detail: ending.detail,
    errorCode: ending.errorCode,
  };
}

export function sandboxMessage(kept: Kept, runnerId: string): SandboxMessage {
  return {
    sandboxId: kept.sandbox.id,
    name: kept.name,
    state: kept.busy ? SandboxState.BUSY : SandboxState.READY,
    profile: kept.sandbox.shape.profile,
    role: kept.role,
    attestation: attestationMessage(kept.sandbox.box.attestation),
    createdAt: new Date(kept.createdAt),
    lastUsedAt: new Date(kept.lastUsedAt),
    expiresAt: new Date(kept.expiresAt),
    policyDigest: kept.policyDigest,
    idleTimeout: durationOf(kept.idleMs),
    runnerId,
  };
}

export function tierMessage(tier: Tier): IsolationTier {
  return TIER[tier];
}

function attestationMessage({
  tier,
  limits,
  limitMechanisms,
  ownNamespaces,
  ...rest
}: Attestation): AttestationMessage {
  return {
    ...rest,
    tier: TIER[tier],
    ownNamespaces: [...ownNamespaces],
    limitMechanisms: { ...limitMechanisms },
    limits: limitsMessage(limits),
  };
}

function limitsMessage({
  memoryBytes,
  cpuMillis,
  pids,
  diskBytes,
}: ResourceLimits): ResourceLimitsMessage {
  return { memoryBytes: BigInt(memoryBytes), cpuMillis, pids, diskBytes: BigInt(diskBytes) };
}

function targetOf({ target }: ExecSpec): Target {
  if (target?.$case === 'sandboxId') return { kind: 'sandbox', id: target.value };
  if (target?.$case === 'session')
    return {
      kind: 'session',
      name: sessionName(target.value.name),
      ask: sandboxAsk(target.value.create),
      mustExist: target.value.mustExist,
    };
  return { kind: 'fresh', ask: sandboxAsk(target?.value) };
}

function programOf({ program }: ExecSpec): Program {
  if (program?.$case === 'source') {
    const { language, code, fileName, args } = program.value;
    return { kind: 'source', language, code, fileName, args };
  }
  if (program?.$case === 'command') return { kind: 'command', argv: program.value.argv };
  throw invalid('program is missing: give source or command');
}

function relativePath(path: string): string {
  const parts = path.split('/');
  if (path === '' || path.startsWith('/') || path.includes('\0') || parts.includes('..'))
    throw invalid(`files: "${path}" must be relative, inside /workspace`);
  return path;
}

function account({ captured, total, dropped }: Ending['stdout']) {
  return { captured: BigInt(captured), total: BigInt(total), dropped: BigInt(dropped) };
}

function durationMs(duration: Duration | undefined): number {
  if (!duration) return 0;
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  if (!(ms > 0)) throw invalid('timeout must be above zero');
  return ms;
}

function durationOf(ms: number): Duration {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

function refuse(value: unknown, name: string): void {
  if (value) throw new OutriderError('UNIMPLEMENTED', `${name} is not implemented in this version`);
}

function invalid(message: string): OutriderError {
  return new OutriderError('INVALID_REQUEST', message);
}
