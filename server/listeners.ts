import { AsyncLocalStorage } from 'node:async_hooks';
import { isDeepStrictEqual } from 'node:util';
import type { ServerEvent, ServerEventBus } from '@modelcontextprotocol/server';
import { toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Datasource } from '#proto';
import { DATASOURCES_URI, datasourceUri } from './datasource-uri.ts';
import type { RunContext, Runner } from './runner-client.ts';

/** One request, as long as its answer is open. */
export interface Hearer extends Omit<RunContext, 'deadlineMs' | 'signal'> {
  /** Ends the answer. */
  readonly end: () => void;
}

/** A runner that was lost is asked again after so long, with the assertion that the client came with. */
const AGAIN_MS = 1_000;
/** What a runner refuses for another reason changes with policies or other clients: by then the assertion has ended, too. */
const LATER_MS = 60_000;
const PASSING: ReadonlySet<string> = new Set(['UPSTREAM_UNREACHABLE', 'UPSTREAM_LOST', 'DRAINING']);
/** Of a client that has no datasources, as they are listed; what else it listens to is no matter of roles. */
const WITHOUT_ROLE: ReadonlySet<string> = new Set(['ROLE_DENIED', 'ROLE_AMBIGUOUS']);

/**
 * Tells clients that listen (`subscriptions/listen`) of changes of their own datasources. Each has a watch of its own at a runner,
 * opened with its own assertion: nobody hears of anybody else's.
 */
export class Listeners implements ServerEventBus {
  readonly #runner: Pick<Runner, 'watchDatasources'>;
  readonly #log: Logger;
  readonly #requests = new AsyncLocalStorage<Hearer>();
  readonly #open = new Set<Hearer>();

  constructor(runner: Pick<Runner, 'watchDatasources'>, log: Logger) {
    this.#runner = runner;
    this.#log = log;
  }

  /** Serves a request: what subscribes while it does is its client's. */
  serving<T>(hearer: Hearer, serve: () => T): T {
    return this.#requests.run(hearer, serve);
  }

  /** Nothing is told to everybody. */
  publish(): void {}

  subscribe(listener: (event: ServerEvent) => void): () => void {
    const hearer = this.#requests.getStore();
    if (!hearer) return () => {};
    const leave = new AbortController();
    this.#open.add(hearer);
    void this.#follow(hearer, leave.signal, listener);
    return () => {
      this.#open.delete(hearer);
      leave.abort();
    };
  }

  /** Ends every stream, so that its client listens at another replica. */
  endAll(): void {
    for (const { end } of this.#open) end();
  }

  async #follow(
    hearer: Hearer,
    signal: AbortSignal,
    listener: (event: ServerEvent) => void,
  ): Promise<void> {
    let known: readonly Datasource[] | undefined;
    const tell = (list: readonly Datasource[]): void => {
      if (known) for (const event of changes(known, list)) listener(event);
      known = list;
    };
    while (!signal.aborted) {
      let againMs = AGAIN_MS;
      try {
        for await (const list of this.#runner.watchDatasources({ ...hearer, signal })) tell(list);
      } catch (thrown) {
        const error = toOutriderError(thrown);
        this.#log.debug('the datasources of a client cannot be followed', { error });
        if (signal.aborted) return;
        // The client must come again, with a newer assertion.
        if (error.code === 'UNAUTHENTICATED') return hearer.end();
        if (WITHOUT_ROLE.has(error.code)) tell([]);
        if (!PASSING.has(error.code)) againMs = LATER_MS;
      }
      if (!signal.aborted) await pause(signal, againMs);
    }
  }
}

/** Until it is worth another try, or until nobody waits for one. */
function pause(signal: AbortSignal, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, ms).unref();
    signal.addEventListener('abort', over);
  });
}

/** What a client hears of the way from one list to the next. */
function changes(before: readonly Datasource[], after: readonly Datasource[]): ServerEvent[] {
  if (isDeepStrictEqual(before, after)) return [];
  const old = new Map(before.map((one) => [datasourceUri(one), one]));
  const uris = new Set([...old.keys(), ...after.map(datasourceUri)]);
  const now = new Map(after.map((one) => [datasourceUri(one), one]));
  const differing = [...uris].filter((uri) => !isDeepStrictEqual(old.get(uri), now.get(uri)));
  return [
    { kind: 'resources_list_changed' },
    ...[DATASOURCES_URI, ...differing].map((uri) => ({ kind: 'resource_updated' as const, uri })),
  ];
}
