import type { Logger } from '#core/log';
import type { ProxyAudit } from './audit.ts';
import type { AuditStore } from './audit-sink.ts';
import type { Authority } from './authority.ts';
import type { Counts } from './counts.ts';
import type { Dialer } from './dialer.ts';
import type { HeldSecrets } from './held-secrets.ts';
import type { Identifier } from './identify.ts';
import type { ConfiguredLimits } from './limits/limits-of.ts';
import type { ProxyMetrics } from './metrics.ts';
import type { ClientTokens } from './oauth2.ts';
import type { OpenExchanges } from './open-exchanges.ts';
import type { UpstreamPools } from './pools.ts';
import type { Resolver } from './resolver.ts';
import type { Secrets } from './secrets.ts';
import type { UpstreamSessions } from './sessions.ts';
import type { TokenExchange } from './token-exchange.ts';
import type { DatasourceTrusts } from './trust.ts';

/** What a started proxy is made of: everything that a call needs, and nothing that one call leaves for the next. */
export interface Parts {
  readonly identifier: Identifier;
  /** Exchanges tokens of identity providers; undefined where none is configured. */
  readonly exchangeToken: TokenExchange | undefined;
  readonly authority: Authority;
  readonly resolver: Resolver;
  readonly pools: UpstreamPools;
  readonly sessions: UpstreamSessions;
  readonly dial: Dialer;
  readonly secrets: Secrets;
  readonly tokens: ClientTokens;
  readonly trusts: DatasourceTrusts;
  readonly held: HeldSecrets;
  readonly audit: ProxyAudit;
  readonly sink: AuditStore;
  readonly open: OpenExchanges;
  /** Which limits there are beside those of the rules. */
  readonly limits: ConfiguredLimits;
  readonly counts: Counts;
  readonly metrics: ProxyMetrics;
  readonly log: Logger;
  readonly upstreamTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly tunnelIdleMs: number;
  /** Whether a credential that comes back is an alert. */
  readonly alertOnReturnedSecret: boolean;
}
