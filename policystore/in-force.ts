import type { Revision } from './bundle.ts';
import type { LoadedPolicy } from './load.ts';

/** A policy that decides for some sandboxes now. */
export interface PolicyInForce extends LoadedPolicy {
  /** Null where it came from a directory. */
  readonly revision: Revision | null;
}

/** A policy that a share of new sandboxes gets while all others stay with the one before. */
export interface PolicyCanary {
  readonly policy: PolicyInForce;
  /** Of new sandboxes, more than 0 and less than 1. */
  readonly share: number;
}

/** What became of an attempt to load a policy. */
export type PolicyReload =
  | { readonly result: 'loaded'; readonly current: PolicyInForce; readonly canary?: PolicyCanary }
  | {
      readonly result: 'refused';
      readonly problem: string;
      /** What stays in force. */
      readonly current: PolicyInForce;
    };
