import type {
  DatasourceType,
  Method,
  Protocol,
  QueryEndpoint,
  S3Operation,
  Scheme,
} from './document.ts';
import type { RateValue } from './units.ts';

/**
 * Everything that deciding for one role needs, as plain JSON: what the runner hands to a sidecar. It names credentials and
 * datasources and knows neither secrets nor endpoints.
 */
export interface RoleProjection {
  readonly version: 1;
  readonly role: string;
  readonly tenant: string;
  /** The first millisecond at which the role has expired; null: never. */
  readonly expiresMs: number | null;
  readonly boundaries: readonly BoundaryProjection[];
  readonly policies: readonly PolicyProjection[];
}

/** The part of a Boundary that is decided at each request. */
export interface BoundaryProjection {
  readonly name: string;
  readonly neverHosts: readonly string[];
  readonly neverCidrs: readonly string[];
  readonly neverPorts: readonly number[];
  /** null: no ceiling. */
  readonly mayHosts: readonly string[] | null;
  readonly mayMethods: readonly Method[] | null;
  readonly mayTunnel: boolean;
  /** Private addresses that rules with `cidrs` and `allowPrivate` may reach; empty: none. */
  readonly mayPrivate: readonly string[];
}

export interface PolicyProjection {
  readonly name: string;
  readonly expiresMs: number | null;
  /** The first millisecond after report mode; null: the policy is enforced. */
  readonly reportUntilMs: number | null;
  readonly allow: readonly AllowProjection[];
  readonly deny: readonly DenyProjection[];
}

/** With either hosts, cidrs or a datasource; the other two are empty. */
export interface AllowProjection {
  readonly id: string;
  /** The earliest expiry of the policy, the credential and the datasource. */
  readonly expiresMs: number | null;
  readonly hosts: readonly string[];
  readonly cidrs: readonly string[];
  readonly allowPrivate: boolean;
  readonly datasource: DatasourceRef | null;
  readonly scheme: Scheme;
  readonly ports: readonly number[];
  readonly methods: 'any' | readonly Method[];
  readonly paths: 'any' | readonly string[];
  readonly query: Readonly<Record<string, string>>;
  readonly queryStrict: boolean;
  readonly protocols: readonly Protocol[];
  readonly credential: string | null;
  readonly limits: Limits;
  /** What the rule asks of a datasource's queries; null: nothing beyond what its type always asks. */
  readonly guard: Guard | null;
}

/** What is null or `any` does not narrow the rule; everything else must hold at once. */
export interface DenyProjection {
  readonly id: string;
  readonly hosts: readonly string[] | null;
  readonly cidrs: readonly string[] | null;
  readonly datasource: DatasourceRef | null;
  readonly ports: readonly number[] | null;
  readonly methods: 'any' | readonly Method[];
  readonly paths: 'any' | readonly string[];
}

export interface DatasourceRef {
  readonly type: DatasourceType;
  readonly name: string;
}

/** The limits of one rule, as numbers; what is absent is not limited by the rule. */
export interface Limits {
  readonly rate?: RateValue;
  /** Requests that may come at once before `rate` bites; default 1. */
  readonly burst?: number;
  readonly concurrent?: number;
  readonly requestBytes?: number;
  readonly responseBytes?: number;
  readonly durationMs?: number;
  readonly rows?: number;
  readonly scanBytes?: number;
  readonly queryTimeMs?: number;
  readonly rangeMs?: number;
  readonly stepMs?: number;
}

/** The part of a rule that is about the queries of one type of datasource. */
export type Guard = MetricsGuard | ClickhouseGuard | S3Guard;

export interface MetricsGuard {
  readonly type: 'prometheus' | 'loki';
  readonly labels: Readonly<Record<string, string>>;
  readonly endpoints: 'any' | readonly QueryEndpoint[];
}

export interface ClickhouseGuard {
  readonly type: 'clickhouse';
  readonly tables: 'any' | readonly string[];
  readonly functions: readonly string[];
  readonly settings: readonly string[];
}

export interface S3Guard {
  readonly type: 's3';
  readonly prefixes: 'any' | readonly string[];
  readonly operations: readonly S3Operation[];
}
