import { OutriderError } from '#core/errors';
import type { PolicySet } from '#policies';
import { denialOf } from './refusal.ts';
import type { Secrets } from './secrets.ts';

/** Where a document names a secret, and what for. */
interface Slot {
  readonly document: string;
  readonly secretRef: string;
  readonly use: 'header' | 'pem';
}

/**
 * The documents whose secret cannot be read now, by name, for whoever operates the proxy. The slot's name is not
 * secret; its value does not leave this file.
 */
export function unresolvedSlots(set: PolicySet, secrets: Secrets): string[] {
  return slotsOf(set)
    .filter((slot) => faultOf(slot, secrets) !== undefined)
    .map(nameOf);
}

/** Keeps a policy from coming into force that names a secret which could end a header early. */
export interface SlotGate {
  /** A secret that is absent is none of its business: it may come. @throws {OutriderError} POLICY_INVALID, which names the slots */
  assertUsable(set: PolicySet): void;
  /** Changes when all the slots for which a policy was refused last have been put right: it may be tried again. */
  generation(): number;
}

export function createSlotGate(secrets: Secrets): SlotGate {
  let refused: readonly Slot[] = [];
  let generation = 0;
  const isUnusable = (slot: Slot) => faultOf(slot, secrets) === 'secret_control_char';
  return {
    assertUsable(set) {
      refused = slotsOf(set).filter(isUnusable);
      if (refused.length === 0) return;
      const problems = refused.map(
        (slot) => `${nameOf(slot)}: the secret holds a control or non-ASCII character`,
      );
      throw new OutriderError('POLICY_INVALID', problems.join('\n'));
    },
    generation() {
      if (refused.length > 0 && !refused.some(isUnusable)) {
        refused = [];
        generation += 1;
      }
      return generation;
    },
  };
}

function slotsOf(set: PolicySet): Slot[] {
  const slots: Slot[] = [];
  const add = (document: string, secretRef: string | undefined, use: Slot['use']): void => {
    if (secretRef !== undefined) slots.push({ document, secretRef, use });
  };
  for (const [key, { spec }] of set.datasources) {
    add(`Datasource ${key}`, spec.secretRef, 'header');
    add(`Datasource ${key}`, spec.tls?.clientCertificateRef, 'pem');
  }
  for (const [name, { spec }] of set.credentials)
    add(`CredentialBinding ${name}`, spec.secretRef, 'mtls' in spec.inject ? 'pem' : 'header');
  return slots;
}

function nameOf({ document, secretRef }: Slot): string {
  return `${document} (${secretRef})`;
}

/** Why it cannot be used now; undefined where it can. */
function faultOf({ secretRef, use }: Slot, secrets: Secrets): string | undefined {
  try {
    if (use === 'pem') secrets.readPem(secretRef);
    else secrets.read(secretRef);
    return undefined;
  } catch (error) {
    return denialOf(error)?.reason ?? 'credential_unavailable';
  }
}
