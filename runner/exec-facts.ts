import type { Revision } from '#policystore';
import type { Attestation } from './backends/backend.ts';

/** What is known of an exec from its start on. */
export interface ExecFacts {
  readonly execId: string;
  readonly sandboxId: string;
  /** Undefined for one that a restart lost. */
  readonly attestation: Attestation | undefined;
  /** Empty outside a session. */
  readonly session: string;
  readonly role: string;
  readonly policyDigest: string;
  /** The reviewed state that it is, where it came as a bundle. */
  readonly policyRevision?: Revision | null | undefined;
  readonly startedAt: Date;
  readonly requestId: string;
  readonly warm: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly purpose: string;
  /** From the request to the program's start. */
  readonly queuedMs: number;
}
