import type { DatasourceType, Method } from '../document.ts';
import type { Path } from '../path.ts';
import type { Reason } from '../reason.ts';

/** A request to a datasource with everything that its meaning depends on. */
export interface DatasourceCall {
  readonly type: DatasourceType;
  /** The datasource's. */
  readonly name: string;
  readonly method: Method;
  readonly path: Path;
  /** Without its question mark. */
  readonly query: string | null;
  /** null: there is none, or nobody has read it; a type that needs it refuses then. */
  readonly body: string | null;
  /** The value of a header, named in lower case. */
  readonly header: (name: string) => string | undefined;
}

/** What is to be sent in place of the query, or why the call is refused. */
export type Inspection =
  | { readonly ok: true; readonly query: string | null; readonly implied: readonly Implied[] }
  | { readonly ok: false; readonly reason: Reason };

/** Another request to the same datasource, which a call comes down to: it may be made where that may be made, too. */
export interface Implied {
  readonly method: Method;
  readonly path: Path;
  /** Why the call is refused where that may not be made. */
  readonly otherwise: Reason;
}

export function pass(query: string | null, implied: readonly Implied[] = []): Inspection {
  return { ok: true, query, implied };
}

export function refuse(reason: Reason): Inspection {
  return { ok: false, reason };
}
