/**
 * The policy documents as reviewed in Git, one TypeScript type per kind. policy.schema.json is their shape in full;
 * what crosses documents or needs arithmetic is checked by `compilePolicySet`.
 */

export type PolicyKind =
  | 'Role'
  | 'EgressPolicy'
  | 'CredentialBinding'
  | 'Datasource'
  | 'Boundary'
  | 'PolicyTest';

export interface Metadata {
  /** Unique within its kind; a Datasource's within its type. */
  readonly name: string;
  readonly owner?: string;
  /** `YYYY-MM-DD`: the last day, in UTC, on which the document grants anything. */
  readonly expires?: string;
  readonly description?: string;
}

interface Document<K extends PolicyKind, S> {
  readonly apiVersion: 'outrider/v1';
  readonly kind: K;
  readonly metadata: Metadata;
  readonly spec: S;
}

export type Role = Document<'Role', RoleSpec>;
export type EgressPolicy = Document<'EgressPolicy', EgressPolicySpec>;
export type CredentialBinding = Document<'CredentialBinding', CredentialBindingSpec>;
export type Datasource = Document<'Datasource', DatasourceSpec>;
export type Boundary = Document<'Boundary', BoundarySpec>;
export type PolicyTest = Document<'PolicyTest', PolicyTestSpec>;
export type PolicyDocument =
  | Role
  | EgressPolicy
  | CredentialBinding
  | Datasource
  | Boundary
  | PolicyTest;

/** Every document of a set, by kind, in any order. */
export interface PolicyDocuments {
  readonly roles: readonly Role[];
  readonly egressPolicies: readonly EgressPolicy[];
  readonly credentialBindings: readonly CredentialBinding[];
  readonly datasources: readonly Datasource[];
  readonly boundaries: readonly Boundary[];
  readonly tests: readonly PolicyTest[];
}

/** Bytes as a number, or text such as `50MiB`. */
export type Bytes = number | string;
/** `200ms`, `30s`, `10m`, `1h`. */
export type Duration = string;
/** `60/min`: a count per s, min, h or day. */
export type Rate = string;

export type Tier = 'namespaces' | 'container' | 'gvisor';

/** Everything that one entry names must hold for the principal. */
export interface Member {
  readonly issuer?: string;
  /** Needs `issuer`: a subject is unique only within it. */
  readonly subject?: string;
  readonly group?: string;
  readonly tenant?: string;
  readonly claim?: Readonly<Record<string, string>>;
}

export type PackageManager = 'pip' | 'npm';
/** When an EgressPolicy is in force: while programs run, or while the dependencies of a sandbox are installed. */
export type Phase = 'run' | 'install';

/** What a role's sandboxes may have installed before their first program. */
export interface DependenciesSpec {
  readonly managers: readonly PackageManager[];
  /** Names, or the beginnings of names with `*`, of what may be asked for; absent: whatever is not blocked. */
  readonly allow?: readonly string[];
  /** The same of what must not be there, also not as a dependency of another. Beats `allow`. */
  readonly block?: readonly string[];
}

export interface SandboxSpec {
  readonly minimumTier?: Tier;
  readonly profiles?: readonly string[];
  readonly images?: readonly string[];
  readonly memory?: Bytes;
  readonly cpus?: number;
  readonly pids?: number;
  readonly disk?: Bytes;
  readonly output?: Bytes;
  readonly timeout?: Duration;
  readonly concurrent?: number;
  readonly sessions?: number;
  readonly sessionIdle?: Duration;
  readonly sessionMax?: Duration;
  /** Absent: nothing may be installed. */
  readonly dependencies?: DependenciesSpec;
}

/** What an argument of a tool may be: a text, in which a `*` at the end stands for any rest, a number, true or false. */
export type ArgumentValue = string | number | boolean;

/** By name, what arguments must be, one of several values each. Those that are named must be given; others may be anything. */
export type ArgumentRules = Readonly<Record<string, ArgumentValue | readonly ArgumentValue[]>>;

/** An MCP tool by its name, whatever its arguments, or only with some. */
export type ToolSpec = string | { readonly name: string; readonly arguments: ArgumentRules };

export interface RoleSpec {
  readonly members: readonly Member[];
  /** MCP tools; absent: none but what the server always offers. */
  readonly tools?: 'any' | readonly ToolSpec[];
  readonly sandbox: SandboxSpec;
  /** What the proxy's audit keeps of requests, beyond what it always does. */
  readonly audit?: {
    /** The first 500 characters of queries and statements; kept unless false. */
    readonly queries?: boolean;
  };
}

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS';
export type Protocol = 'http1' | 'http2' | 'grpc' | 'websocket' | 'tunnel';
export type Scheme = 'http' | 'https';
export type DatasourceType = 'clickhouse' | 'prometheus' | 'loki' | 's3' | 'http';

export interface LimitsSpec {
  readonly rate?: Rate;
  readonly burst?: number;
  readonly concurrent?: number;
  readonly requestBytes?: Bytes;
  readonly responseBytes?: Bytes;
  readonly duration?: Duration;
  readonly rows?: number;
  readonly scanBytes?: Bytes;
  readonly queryTime?: Duration;
  /** The longest time that one query may look at. */
  readonly range?: Duration;
  /** The shortest time between two points of one query. */
  readonly step?: Duration;
}

export type QueryEndpoint =
  | 'query'
  | 'series'
  | 'labels'
  | 'exemplars'
  | 'metadata'
  | 'rules'
  | 'alerts'
  | 'format'
  | 'stats';
export type S3Operation = 'get' | 'list' | 'put' | 'delete';

export interface AllowRuleSpec {
  readonly id: string;
  readonly hosts?: readonly string[];
  readonly cidrs?: readonly string[];
  /** Only with `cidrs`, and only where every Boundary's `mayPrivate` holds them. */
  readonly allowPrivate?: boolean;
  /** Default https. */
  readonly scheme?: Scheme;
  /** Default [443], or [80] where the scheme is http. */
  readonly ports?: readonly number[];
  readonly methods?: 'any' | readonly Method[];
  readonly paths?: 'any' | readonly string[];
  /** Parameter name to pattern; every value given must match. */
  readonly query?: Readonly<Record<string, string>>;
  /** Refuse parameters that `query` does not name. */
  readonly queryStrict?: boolean;
  readonly protocols?: readonly Protocol[];
  readonly credential?: string;
  /** `<type>/<name>`. */
  readonly datasource?: string;
  /** Prometheus, Loki: matchers that every selector of a query must carry as they stand here. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Prometheus, Loki: parts of the API; absent: all that are forwarded at all. */
  readonly endpoints?: readonly QueryEndpoint[];
  /** ClickHouse: `db.table` or `db.*`. */
  readonly tables?: 'any' | readonly string[];
  /** ClickHouse: functions beyond those that every query may use. */
  readonly functions?: readonly string[];
  /** ClickHouse: settings that a query may choose for itself. */
  readonly settings?: readonly string[];
  /** S3: what a key must begin with. */
  readonly prefixes?: 'any' | readonly string[];
  readonly operations?: readonly S3Operation[];
  readonly limits?: LimitsSpec;
}

export interface DenyRuleSpec {
  readonly id: string;
  readonly hosts?: readonly string[];
  readonly cidrs?: readonly string[];
  readonly datasource?: string;
  readonly methods?: 'any' | readonly Method[];
  readonly paths?: 'any' | readonly string[];
  readonly ports?: readonly number[];
}

export interface Subject {
  readonly role?: string;
  readonly tenant?: string;
}

export interface EgressPolicySpec {
  readonly subjects: readonly Subject[];
  /** Default run. */
  readonly phase?: Phase;
  readonly mode: 'enforce' | 'report';
  /** The last day, in UTC, of report mode; enforced from the next. */
  readonly until?: string;
  readonly allow: readonly AllowRuleSpec[];
  readonly deny?: readonly DenyRuleSpec[];
  readonly budgets?: readonly BudgetSpec[];
}

export interface BudgetSpec {
  readonly id: string;
  readonly per: readonly (
    | 'tenant'
    | 'role'
    | 'sandbox'
    | 'credential'
    | 'hour'
    | 'day'
    | 'month'
  )[];
  readonly requests?: number;
  readonly bytes?: Bytes;
}

/** Where a client gets its tokens, and as whom: the secret is the client's, the proxy asks (RFC 6749, 4.4). */
export interface ClientCredentials {
  readonly tokenUrl: string;
  readonly clientId: string;
  readonly scopes?: readonly string[];
  readonly audience?: string;
}

export type Injection =
  | { readonly header: string; readonly format: string }
  /** The secret is `<access key id>:<secret access key>`, with `:<session token>` where there is one. */
  | { readonly sigv4: { readonly service: string; readonly region: string } }
  | {
      readonly oauth2: ClientCredentials & {
        /** Default client_credentials. */
        readonly grant?: 'client_credentials' | 'refresh_token' | 'jwt_bearer';
      };
    }
  | { readonly mtls: true };

export interface CredentialBindingSpec {
  /** `env:NAME`, `file:name` or `store:<instance>:<NAME>`: a slot that only the proxy resolves. */
  readonly secretRef: string;
  readonly hosts: readonly string[];
  readonly paths?: 'any' | readonly string[];
  readonly inject: Injection;
  readonly stripClient?: readonly string[];
  readonly onReject401?: 'fail' | 'refreshOnce';
  /** Default true. */
  readonly redact?: boolean;
}

export type DatasourceAuth =
  | { readonly type: 'none' }
  | { readonly type: 'bearer' }
  | { readonly type: 'basic'; readonly username: string }
  | { readonly type: 'header'; readonly name: string }
  /** http: a parameter behind the caller's own. */
  | { readonly type: 'query'; readonly name: string }
  /** s3: the secret is `<access key id>:<secret access key>`, with `:<session token>` where there is one. */
  | { readonly type: 'sigv4'; readonly region: string }
  | ({ readonly type: 'oauth2' } & ClientCredentials);

/** How TLS to a datasource differs from the proxy's own settings. */
export interface DatasourceTls {
  /** PEM: trusted in place of the proxy's authorities. */
  readonly ca?: string;
  /** PEM of a certificate and its key, shown to the datasource. */
  readonly clientCertificateRef?: string;
}

export interface DatasourceSpec {
  readonly type: DatasourceType;
  /** `http(s)://host[:port][/base]`, without user information, query or fragment. */
  readonly endpoint: string;
  /** How the secret is put into a request; the secret itself comes from `secretRef`. */
  readonly auth: DatasourceAuth;
  /** Required unless `auth` is none. */
  readonly secretRef?: string;
  readonly allowPrivate?: boolean;
  readonly allowLoopback?: boolean;
  readonly tls?: DatasourceTls;
  /** Prometheus, Loki: the tenant that every query is for (X-Scope-OrgID). */
  readonly tenant?: string;
  /** S3: what stands before a key in the address under which anybody can read it. */
  readonly publicUrlPrefix?: string;
}

export interface BoundarySpec {
  readonly neverHosts?: readonly string[];
  readonly neverCidrs?: readonly string[];
  readonly neverPorts?: readonly number[];
  readonly maxRate?: Rate;
  readonly requireTests?: boolean;
  readonly maxExpiryDays?: number;
  readonly mayHosts?: readonly string[];
  readonly mayPrivate?: readonly string[];
  readonly mayLoopbackDatasources?: boolean;
  readonly mayMethods?: 'any' | readonly Method[];
  readonly mayTunnel?: boolean;
}

export interface PolicyTestCase {
  readonly name: string;
  /** `GET https://host/path`, `CONNECT host:443` or `GET /<type>/<name>/path`. */
  readonly request: string;
  /** The body of a request to a datasource: SQL, or a form. */
  readonly body?: string;
  /** What the name resolves to, for a case about addresses. */
  readonly resolve?: readonly string[];
  readonly expect: {
    readonly verdict: 'allow' | 'deny';
    readonly rule?: string;
    readonly credential?: string;
    readonly reason?: string;
  };
}

/** Requests that nothing may allow: the fields of a deny rule, all of which must hold at once. */
export interface NeverSpec extends Omit<DenyRuleSpec, 'id'> {
  /** `**`: every name and every address. In an opaque tunnel anything may be asked for. */
  readonly hosts?: readonly string[];
}

export interface PolicyTestSpec {
  readonly as: { readonly role: string; readonly tenant?: string; readonly phase?: Phase };
  readonly cases: readonly PolicyTestCase[];
  /** Proven for every request there is, not sampled. */
  readonly never?: readonly NeverSpec[];
  /** Percent of the rules in force for `as` that cases must cover: one that the rule allows, and one that it nearly does. */
  readonly coverage?: { readonly rules?: number };
}
