import type { DatasourceSpec, DatasourceTarget } from '#policies';

/** One call to a datasource, as it goes on the wire. */
export interface DatasourceCall {
  /** Origin form, behind the endpoint's own base path. */
  readonly path: string;
  /** Headers put in last. */
  readonly inject: readonly (readonly [name: string, value: string])[];
  /** What must not come back. */
  readonly secrets: readonly string[];
}

/** What one type of datasource understands. Every file of this folder that is named after a type exports one. */
export interface DatasourceAdapter {
  /**
   * Refuses what this version does not speak, before anything is looked up or read.
   * @throws {OutriderError} UNIMPLEMENTED
   */
  readonly assertSpoken: () => void;
  /** Whether the body says what is asked, so that it must be read before it is known whether it may be. */
  readonly readsBody: (target: DatasourceTarget) => boolean;
  /**
   * The call that is really sent for a target that is allowed and forwarded.
   * @throws {OutriderError} CREDENTIAL_UNAVAILABLE where `auth` needs a secret and there is none
   */
  readonly plan: (
    spec: DatasourceSpec,
    target: DatasourceTarget,
    secret: string | undefined,
  ) => DatasourceCall;
}
