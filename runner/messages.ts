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
import { parseRequirements } from './dependencies.ts';
import type { KilledBy as Cause, Ending } from './exec.ts';
import type { ExecAsk } from './exec-ask.ts';
import type { ExecFacts } from './exec-facts.ts';
import type { Target } from './places.ts';
import type { Program } from './profiles.ts';
import { NOTHING_ASKED, type SandboxAsk } from './role-limits.ts';
import type { Kept } from './sessions.ts';
import { revisionFields } from './sidecar-link.ts';

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
const LABELS_MAX = 16;
const LABEL_NAME = /^[^\p{Cc}]{1,63}$/u;
const LABEL_VALUE = /^[^\p{Cc}]{0,256}$/u;
const SESSION_NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** @throws {OutriderError} INVALID_REQUEST, UNIMPLEMENTED */
export function execAsk(
  spec: ExecSpec | undefined,
  call: { requestId: string; signal: AbortSignal },
): ExecAsk {
  if (!spec) throw invalid('spec is missing');
  refuse(spec.terminal, 'terminal');
  refuse(spec.contextId, 'context_id');
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
    timeoutMs: durationMs('timeout', spec.timeout),
    outputBytes: Number(spec.output?.bytes ?? 0n),
    overflow: spec.output?.overflow === OutputOverflow.KILL ? 'kill' : 'truncate',
    openStdin: spec.openStdin || spec.stdin.length > 0,
    labels: labelsOf(spec.labels),
    purpose: purposeOf(spec.purpose),
    requestId: call.requestId,
    signal: call.signal,
  };
}

/** @throws {OutriderError} INVALID_REQUEST, UNIMPLEMENTED */
export function sandboxAsk(spec: SandboxSpec | undefined): SandboxAsk {
  if (!spec) return NOTHING_ASKED;
  refuse(spec.checkpointId, 'checkpoint_id');
  const { memoryBytes = 0n, cpuMillis = 0, pids = 0, diskBytes = 0n } = spec.limits ?? {};
  const tier = (Object.keys(TIER) as Tier[]).find((name) => TIER[name] === spec.minimumTier); // oxlint-disable-line typescript/no-unsafe-type-assertion -- the keys of a record by Tier
  return {
    profile: spec.profile,
    backend: spec.backend,
    image: spec.image,
    minimumTier: tier,
    resources: { memoryBytes: Number(memoryBytes), cpuMillis, pids, diskBytes: Number(diskBytes) },
    idleMs: durationMs('idle_timeout', spec.idleTimeout),
    lifeMs: durationMs('max_lifetime', spec.maxLifetime),
    ...(spec.dependencies.length > 0 ? { dependencies: parseRequirements(spec.dependencies) } : {}),
  };
}

/** A session's name as it may be given. @throws {OutriderError} INVALID_REQUEST */
export function sessionName(name: string): string {
  if (!SESSION_NAME.test(name)) throw invalid('a session name is 1 to 64 of A-Z a-z 0-9 . _ -');
  return name;
}

export function startedMessage(facts: ExecFacts, runnerId: string): ExecStarted {
  const { execId, sandboxId, session, role, policyDigest, startedAt, requestId, warm } = facts;
  return {
    execId,
    sandboxId,
    session,
    role,
    policyDigest,
    attestation: facts.attestation && attestationMessage(facts.attestation),
    startedAt,
    requestId,
    warm,
    runnerId,
    ...revisionFields(facts.policyRevision),
  };
}

export function endMessage(ending: Ending, { queuedMs }: Pick<ExecFacts, 'queuedMs'>): ExecEnd {
  const { egress } = ending;
  return {
    killedBy: CAUSES[ending.killedBy],
    exitCode: ending.exitCode,
    signal: ending.signal,
    usage: {
      wall: durationOf(ending.wallMs),
      cpu: durationOf(ending.cpuMs),
      maxRssBytes: BigInt(Math.round(ending.maxRssBytes)),
      queued: durationOf(queuedMs),
    },
    stdout: account(ending.stdout),
    stderr: account(ending.stderr),
    exception: ending.exception,
    artefacts: ending.artefacts.map(({ size, ...rest }) => ({ ...rest, size: BigInt(size) })),
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
    state: stateOf(kept),
    profile: kept.sandbox.shape.profile,
    role: kept.role,
    attestation: attestationMessage(kept.sandbox.box.attestation),
    createdAt: new Date(kept.createdAt),
    lastUsedAt: new Date(kept.lastUsedAt),
    expiresAt: new Date(kept.expiresAt),
    policyDigest: kept.policyDigest,
    ...revisionFields(kept.policyRevision),
    idleTimeout: durationOf(kept.idleMs),
    runnerId,
  };
}

function stateOf({ sandbox, busy }: Kept): SandboxState {
  if (!sandbox.alive) return SandboxState.ENDED;
  return busy ? SandboxState.BUSY : SandboxState.READY;
}

export function tierMessage(tier: Tier): IsolationTier {
  return TIER[tier];
}

/** What was read from outside when the sandbox was made. */
export function attestationMessage({
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
  const ask = sandboxAsk(target?.value);
  if (ask.idleMs || ask.lifeMs)
    throw invalid('idle_timeout and max_lifetime are for sandboxes that are kept: use timeout');
  return { kind: 'fresh', ask };
}

function programOf({ program }: ExecSpec): Program {
  if (program?.$case === 'source') {
    const { language, code, fileName, args } = program.value;
    return { kind: 'source', language, code, fileName, args };
  }
  if (program?.$case === 'command') return { kind: 'command', argv: program.value.argv };
  throw invalid('program is missing: give source or command');
}

/** At most 16, without control characters. @throws {OutriderError} INVALID_REQUEST */
function labelsOf(labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const all = Object.entries(labels);
  const fits = ([name, value]: [string, string]) =>
    LABEL_NAME.test(name) && LABEL_VALUE.test(value);
  if (all.length > LABELS_MAX || !all.every(fits))
    throw invalid(
      `labels: at most ${LABELS_MAX}, names of 1 to 63 characters, values of at most 256`,
    );
  return labels;
}

function purposeOf(purpose: string): string {
  if (!LABEL_VALUE.test(purpose)) throw invalid('purpose: at most 256 characters of text');
  return purpose;
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

function durationMs(name: string, duration: Duration | undefined): number {
  if (!duration) return 0;
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  if (!(ms > 0)) throw invalid(`${name} must be above zero`);
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
