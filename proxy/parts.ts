import type { Logger } from '#core/log';
import type { Budgets, RuleLimits } from '#policies';
import type { ProxyAudit } from './audit.ts';
import type { AuditSink } from './audit-sink.ts';
import type { Authority } from './authority.ts';
import type { Identifier } from './identify.ts';
import type { ProxyMetrics } from './metrics.ts';
import type { OpenExchanges } from './open-exchanges.ts';
import type { UpstreamPools } from './pools.ts';
import type { Resolver } from './resolver.ts';
import type { Secrets } from './secrets.ts';

/** What a started proxy is made of: everything that a call needs, and nothing that one call leaves for the next. */
export interface Parts {
  readonly identifier: Identifier;
  readonly authority: Authority;
  readonly resolver: Resolver;
  readonly pools: UpstreamPools;
  readonly secrets: Secrets;
  readonly audit: ProxyAudit;
  readonly sink: AuditSink;
  readonly open: OpenExchanges;
  readonly ruleLimits: RuleLimits;
  readonly budgets: Budgets;
  readonly metrics: ProxyMetrics;
  readonly log: Logger;
  readonly upstreamTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly tunnelIdleMs: number;
}
