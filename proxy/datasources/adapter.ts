import type { Transform } from 'node:stream';
import type { DatasourceSpec, DatasourceTarget } from '#policies';
import type { Abandonment } from '../abandon.ts';

/** An allowed call, with everything that what is sent depends on. */
export interface PlannedCall {
  readonly spec: DatasourceSpec;
  /** With the query that inspection left. */
  readonly target: DatasourceTarget;
  /** The value of `secretRef`; of oauth2 the token. */
  readonly secret: string | undefined;
  readonly rawHeaders: readonly string[];
  /** Where it has been read. */
  readonly body: Buffer | undefined;
  readonly nowMs: number;
}

/** One call to a datasource, as it goes on the wire. */
export interface DatasourceCall {
  /** In place of the caller's. */
  readonly method?: 'POST';
  /** Origin form, behind the endpoint's own base path. */
  readonly path: string;
  /** Headers put in last. */
  readonly inject: readonly (readonly [name: string, value: string])[];
  /** Further headers of the caller that go, in lower case. */
  readonly strip?: readonly string[];
  /** What must not come back. */
  readonly secrets: readonly string[];
  /**
   * The credential itself is not sent, only a signature made with it: answers may come in pieces and encodings, and only what the
   * other side says of a failure is searched for secrets.
   */
  readonly signs?: boolean;
  /** What the caller's body goes through on its way. */
  readonly transform?: Transform | undefined;
  /** How to stop what the call began, should nobody wait for the answer any more. */
  readonly abandonment?: Abandonment;
  /** Headers that the caller gets with an answer of success. */
  readonly announce?: readonly (readonly [name: string, value: string])[];
}

/**
 * `asks`: it says what is asked, so that it is read before it is known whether it may be. `goes`: it goes on as it comes. `none`: there is
 * none, and a call that has one is refused, since the other side could take it for a part of what is asked.
 */
export type BodyUse = 'asks' | 'goes' | 'none';

/** What one type of datasource understands. Every file of this folder that is named after a type exports one. */
export interface DatasourceAdapter {
  /** What a body of such a call is. */
  readonly body: (target: DatasourceTarget) => BodyUse;
  /**
   * Refuses what no rule is about, by the call's head; nothing has been looked up or dialled by then.
   * @throws {OutriderError} EGRESS_DENIED, INVALID_REQUEST
   */
  readonly assertHead?: (
    call: Pick<PlannedCall, 'spec' | 'target' | 'rawHeaders' | 'nowMs'>,
  ) => void;
  /**
   * The call that is really sent for a target that is allowed and forwarded.
   * @throws {OutriderError} CREDENTIAL_UNAVAILABLE where `auth` needs a secret and there is none
   */
  readonly plan: (call: PlannedCall) => DatasourceCall;
}
