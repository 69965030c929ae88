import type { Phase } from './document.ts';

/** What kind of permission one `PolicyChange` is about. */
export type ChangeKind =
  /** A request, an opaque tunnel or (with `resolve`) an address that was refused and is allowed now. */
  | 'allowed'
  /** The other way round. */
  | 'denied'
  /** An allowed request that gets another credential than before, or its first, or none any more. */
  | 'credential'
  /** An allowed request under other limits. */
  | 'limits'
  /** An allowed datasource request under other typed restrictions (labels, tables, prefixes, ...). */
  | 'guard'
  /** A budget of a policy. */
  | 'budgets'
  /** `metadata.expires` of a document. */
  | 'expiry'
  /** From enforcing to reporting, or back, or `until` another day. */
  | 'mode'
  /** Who has the role. */
  | 'members'
  /** The MCP tools of a role. */
  | 'tools'
  /** The sandbox of a role: limits, profiles, images, dependencies. */
  | 'sandbox'
  /** A ceiling of a Boundary. */
  | 'boundary'
  /** Where a CredentialBinding's secret comes from, where it goes, and how. */
  | 'binding'
  /** Where a Datasource is, and how it is spoken to. */
  | 'datasource';

/** One difference between what two sets permit, with one example. */
export interface PolicyChange {
  /**
   * Whom it is about. A `role` of null: every role; a `tenant` of null: every tenant (of a tenant that policies name, only what
   * differs from every other tenant is told again).
   */
  readonly subject: { readonly role: string | null; readonly tenant: string | null };
  /** While programs run or while dependencies are installed; null where that does not matter. */
  readonly phase: Phase | null;
  readonly change: ChangeKind;
  /** Whether something is possible now that was not: newly allowed, raised, added, loosened. What cannot be compared counts. */
  readonly widening: boolean;
  /**
   * For requests a text that `requestTarget` reads: `GET https://h/p?q`, `CONNECT h:443`, `GET /prometheus/main/p`. Decided in the
   * two sets it shows the change. Otherwise the place in the document, such as `Role analyst: spec.sandbox.memory`.
   */
  readonly example: string;
  /** An address that the example's name leads to, where the change is about that address alone. */
  readonly resolve?: string;
  /** The rule (or boundary, binding, datasource, role) that makes the difference, in the new set or, where it is gone, in the old. */
  readonly rule: string | null;
  /** The EgressPolicy that holds the rule. */
  readonly policy: string | null;
  /** What held before, for people: `denied`, `60/min`, a credential's name; null where there was nothing. */
  readonly before: string | null;
  readonly after: string | null;
}

/** A change without whom and when it is about. */
export type RequestChange = Omit<PolicyChange, 'subject' | 'phase'>;
