import { randomUUID } from 'node:crypto';
import { adminRoutes, type ReadyCheck, removeStaleSockets } from '#core/http';
import { Lifecycle } from '#core/lifecycle';
import { sumMetrics } from '#core/metrics';
import type { ProxyConfig } from '../config.ts';
import { assertProxyConfig } from '../config-check.ts';
import { createCounts } from '../counts.ts';
import { usedProofs } from '../dpop.ts';
import { exchangeKeyOf } from '../exchange-key.ts';
import { usedTokens } from '../identify.ts';
import { LocalLimits } from '../limits/local.ts';
import { MemoryLeases } from '../limits/memory-store.ts';
import { openSidecarAudit, type ProxyDeps, serveAdmin } from '../server.ts';
import { CountsOfWorker } from './counts-of-worker.ts';
import type { Status } from './doors.ts';
import { deliverTo, flushSink } from './remote-sink.ts';
import { type Attendant, Workers } from './workers.ts';

/** Longer than the workers may take to drain. */
const STEP_MS = 25_000;

/** A proxy of several processes that runs. */
export interface Primary {
  /** Where it serves. */
  readonly address: string;
  /** Drains the workers, and ends what they had in common. Never rejects. */
  readonly stop: () => Promise<void>;
}

/**
 * The first process of a proxy with `workers` > 1. It has what there must be one of: the view of limits and budgets, the audit of the
 * sidecars, the key of exchanged tokens, and the admin address; the workers have all else, each for itself, and serve. It sees no request.
 * @throws {OutriderError} CONFIG_INVALID, ADDRESS_IN_USE, and what a worker could not do; whatever had been started is stopped again
 */
export async function startPrimary(
  config: ProxyConfig,
  deps: Pick<ProxyDeps, 'log' | 'metrics'>,
): Promise<Primary> {
  const lifecycle = new Lifecycle(deps.log, STEP_MS);
  try {
    return { address: await start(config, deps, lifecycle), stop: () => lifecycle.stop() };
  } catch (error) {
    await lifecycle.stop();
    throw error;
  }
}

async function start(
  config: ProxyConfig,
  { log, metrics }: Pick<ProxyDeps, 'log' | 'metrics'>,
  lifecycle: Lifecycle,
): Promise<string> {
  assertProxyConfig(config);
  const exchangeKey = exchangeKeyOf(config['exchange.signingKey']);
  // Each worker listens as if it were alone, but for this.
  await removeStaleSockets([config.listen, config.tcp]);
  const sink = openSidecarAudit(config);
  lifecycle.add('audit sink', () => sink.close());
  const leases = new MemoryLeases({ keepsBack: false });
  const counts = createCounts(new LocalLimits());
  const proxyId = randomUUID();
  const used = { token: usedTokens(), proof: usedProofs() };

  const restarts = metrics.counter(
    'outrider_worker_restarts_total',
    'Workers of this proxy that ended and were started again.',
  );
  const workers = new Workers({
    count: config.workers,
    log,
    onRestart: () => restarts.inc(),
    attend({ number, again }, usedUp): Attendant {
      const counted = new CountsOfWorker(counts, usedUp);
      return {
        begin: () => ({ config, number, again, exchangeKey, proxyId }),
        lease: (asks) => asks.map((ask) => leases.answer(`worker ${number}`, ask)),
        count: (countable) => counted.count(countable),
        counting: (news) => counted.counting(news),
        deliver: (delivery) => deliverTo(sink, delivery),
        useOnce: ({ kind, key }) => used[kind].use(key),
        flush: () => flushSink(sink, log),
        end: () => counted.close(),
      };
    },
  });
  metrics.gauge(
    'outrider_workers_ready',
    'Workers of this proxy that serve requests now.',
    [],
    (gauge) => gauge.set(workers.ready),
  );
  const readiness = new Readiness(config, workers);
  const text = async () => sumMetrics([await metrics.snapshot(), ...(await workers.metrics())]);
  await serveAdmin(
    adminRoutes(readiness.checks, { text }, () => readiness.info),
    config.admin,
    lifecycle,
  );
  lifecycle.add('workers', () => workers.stop());
  return workers.start();
}

/** What /readyz says of all workers: ready while one is and says so, not ready for what any of them lacks. */
class Readiness {
  readonly checks: readonly ReadyCheck[];
  readonly #config: ProxyConfig;
  readonly #workers: Workers;
  #asking: Promise<readonly (Status & { number: number })[]> | undefined;
  #info: Readonly<Record<string, unknown>> = {};

  constructor(config: ProxyConfig, workers: Workers) {
    this.#config = config;
    this.#workers = workers;
    const ofWorkers = ['policies', 'audit', ...config['ready.require']];
    this.checks = [
      {
        name: 'workers',
        check: async () => (workers.ready === 0 ? 'none serves' : this.#problem('workers')),
      },
      ...ofWorkers.map((name) => ({ name, check: () => this.#problem(name) })),
    ];
  }

  /** As the first worker said last, and how many there are. */
  get info(): Readonly<Record<string, unknown>> {
    const { workers: configured } = this.#config;
    return { ...this.#info, workers: { configured, ready: this.#workers.ready } };
  }

  /** All checks of one request ask the workers once. */
  async #problem(name: string): Promise<string | undefined> {
    this.#asking ??= this.#workers.statuses().finally(() => {
      this.#asking = undefined;
    });
    const statuses = await this.#asking;
    this.#info = statuses[0]?.info ?? {};
    const said = statuses.flatMap(({ number, problems }) =>
      problems[name] === undefined ? [] : [`worker ${number}: ${problems[name]}`],
    );
    return said.length === 0 ? undefined : said.join('; ');
  }
}
