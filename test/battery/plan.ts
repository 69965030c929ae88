import type { Known } from './bytes.ts';
import type { CanaryOrders } from './canary.ts';
import type { Case } from './case.ts';
import type { Certificates } from './certificates.ts';
import type { Step } from './steps.ts';

/** One way to send a case. */
export interface Plan {
  /** How it goes in: the same case must be decided alike by all of them. */
  readonly mode: string;
  /** What the program speaks at the end of its steps. */
  readonly form: 'http' | 'http2' | 'tunnel' | 'opening' | 'datagram';
  readonly steps: readonly Step[];
  /** Whether these are the case's own bytes: then an answer has exactly the status that the case expects. */
  readonly native: boolean;
  /** It goes to the proxy itself: no sidecar has a record of it. */
  readonly past?: 'sidecar';
  readonly orders?: CanaryOrders;
  /** The role of the program; `fixture` unless told. */
  readonly role?: string;
  readonly timeoutMs?: number;
}

/** What a kind of case needs to know to make its plans. */
export interface Ground {
  readonly known: Known;
  readonly certificates: Certificates;
}

/** Every way in that makes sense for a case of one kind. @throws {CaseUnusable} where a field cannot be understood */
export type Planner = (one: Case, ground: Ground) => readonly Plan[];
