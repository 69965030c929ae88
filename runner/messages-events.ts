import { type Sandbox as SandboxMessage, SandboxState, type WatchEventsResponse } from '#proto';
import type { FreshSandbox, Happening, RunnerEvent } from './events.ts';
import { attestationMessage, endMessage, sandboxMessage, startedMessage } from './messages.ts';
import { revisionFields } from './sidecar-link.ts';

/** An event as its watcher gets it: what a program wrote or threw is left out. */
export function eventMessage(event: RunnerEvent, runnerId: string): WatchEventsResponse {
  const { time, sandboxId, execId, labels, happening } = event;
  return {
    time,
    sandboxId,
    execId,
    labels: { ...labels },
    event: happeningMessage(happening, runnerId),
  };
}

function happeningMessage(
  happening: Happening,
  runnerId: string,
): NonNullable<WatchEventsResponse['event']> {
  if (happening.kind === 'sandboxCreated') {
    const { sandbox: made } = happening;
    const sandbox = 'owner' in made ? sandboxMessage(made, runnerId) : freshMessage(made, runnerId);
    return { $case: 'sandboxCreated', value: { sandbox } };
  }
  if (happening.kind === 'sandboxEnded')
    return { $case: 'sandboxEnded', value: { reason: happening.reason } };
  if (happening.kind === 'execStarted')
    return { $case: 'execStarted', value: startedMessage(happening.facts, runnerId) };
  if (happening.kind === 'execEnded') {
    const value = endMessage(happening.ending, happening.facts);
    return { $case: 'execEnded', value };
  }
  return { $case: 'egressDenied', value: { ...happening.denied } };
}

/** It lives for one exec: it is busy from its first moment, and there is nothing to find it by. */
function freshMessage(sandbox: FreshSandbox, runnerId: string): SandboxMessage {
  const { id: sandboxId, profile, role, policyDigest, policyRevision, attestation } = sandbox;
  return {
    sandboxId,
    name: '',
    state: SandboxState.BUSY,
    profile,
    role,
    attestation: attestationMessage(attestation),
    createdAt: undefined,
    lastUsedAt: undefined,
    expiresAt: undefined,
    policyDigest,
    ...revisionFields(policyRevision),
    idleTimeout: undefined,
    runnerId,
  };
}
