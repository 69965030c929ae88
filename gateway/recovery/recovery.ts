import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { Balancer } from '../relay/balancer.ts';
import { isSound } from '../relay/health.ts';
import type { Message } from '../relay/message.ts';
import type { Upstream } from '../relay/upstream.ts';
import type { EndedSessions } from '../sessions/ended-sessions.ts';
import type { ClientParameters } from '../sessions/sealed-id.ts';
import { keyOf, type Session } from '../sessions/sessions.ts';
import { endAt, initialiseAt } from './initialise.ts';
import type { MovedSessions } from './moved-sessions.ts';
import type { SessionPlace } from './moves/store.ts';
import type { News } from './news.ts';
import { Places } from './places.ts';
import { SettingsMemory } from './session-settings.ts';

/** Gives sessions of servers that are gone a new place. */
export interface Recovery {
  /** Where a session is now, as far as this gateway knows. */
  placeOf(session: Session): SessionPlace;
  /** Whether a server with which a request was lost is gone, and not the one connection alone. */
  isGone(upstream: Upstream): Promise<boolean>;
  /**
   * The session's new place, after `lost` could not be reached: begun again with what its client once said, in the `version` that it
   * speaks by its request, which may be older than the one that it once asked for. Requests of one session that fail together share one. Where
   * servers answer in other versions only, the session ends.
   * @throws {OutriderError} SESSION_NOT_FOUND where the session cannot be begun again, UPSTREAM_UNREACHABLE where no server takes it
   */
  recover(session: Session, lost: SessionPlace, version?: string): Promise<SessionPlace>;
  /** Remembers what a client has set and its server has accepted, and tells the other gateways. */
  note(session: Session, messages: readonly Message[]): void;
  forget(session: Session): void;
}

/** A process that was killed refuses at once; one that is only busy is to keep its sessions. */
const SOUND_WITHIN_MS = 1_000;
/** Sessions that are begun again at one time: a server that takes the sessions of another must still answer its own. */
const AT_ONCE = 16;
/** Servers that a session is offered to. */
const OFFERS_MAX = 3;

export function createRecovery(deps: {
  readonly balancer: Balancer;
  readonly moved: MovedSessions;
  readonly ended: EndedSessions;
  readonly news: News;
  readonly log: Logger;
  readonly metrics: Metrics;
}): Recovery {
  const { balancer, moved, ended, news, log, metrics } = deps;
  const memory = new SettingsMemory(news);
  const places = new Places(AT_ONCE);
  const underWay = new Map<string, Promise<SessionPlace>>();
  const recovered = metrics.counter(
    'outrider_sessions_recovered_total',
    'Sessions whose server was gone, by what came of it: begun again here, found where another gateway had, or failed',
    ['result'],
  );
  const took = metrics.histogram(
    'outrider_session_recovery_seconds',
    'Time until a session whose server was gone had a place again',
  );

  async function find(
    session: Session,
    lost: SessionPlace,
    version: string | undefined,
  ): Promise<SessionPlace> {
    const known = await moved.lookUp(lost);
    if (known.upstreamId !== lost.upstreamId || known.backend !== lost.backend) {
      recovered.inc({ result: 'found' });
      return known;
    }
    const { client } = session;
    // It may have been ended through another gateway a moment ago.
    await news.catchUp();
    if (!client || ended.has(keyOf(session))) throw gone();
    const said = { ...client, protocolVersion: version ?? client.protocolVersion };
    const begun = await places.within(() => begin(keyOf(session), said, lost.backend));
    if (!begun) {
      memory.forget(keyOf(session));
      await ended.add(keyOf(session), session.expiresAt);
      throw gone();
    }
    const place = await moved.move(lost, { backend: begun.at.url.href, upstreamId: begun.id });
    if (place.upstreamId !== begun.id) void endAt(begun.at, begun.id);
    recovered.inc({ result: 'ok' });
    return place;
  }

  /** Undefined where servers were willing, but none in the client's version: later ones would hardly be. */
  async function begin(
    key: string,
    client: ClientParameters,
    lost: string,
  ): Promise<{ at: Upstream; id: string } | undefined> {
    let problem = nowhere();
    let wantsAnother = false;
    const tried = balancer.upstreams.filter(({ url }) => url.href === lost);
    for (let offer = 0; offer < OFFERS_MAX; offer++) {
      const at = balancer.pick(tried);
      if (!at) break;
      tried.push(at);
      // Counted like any request, so that they spread over the servers that are left.
      const visit = balancer.begin(at);
      try {
        const id = await initialiseAt(at, client, memory.settingsOf(key));
        visit.over('answered');
        if (id !== undefined) return { at, id };
        wantsAnother = true;
      } catch (error) {
        visit.over('failed');
        problem = error instanceof OutriderError ? error : nowhere(error);
      }
    }
    if (wantsAnother) return undefined;
    throw problem;
  }

  return {
    placeOf: (session) => moved.current(session),
    isGone: async (upstream) => !(await isSound(upstream, SOUND_WITHIN_MS)),
    recover(session, lost, version) {
      const running = underWay.get(session.id);
      if (running) return running;
      const started = performance.now();
      const recovering = find(session, lost, version);
      underWay.set(session.id, recovering);
      const over = () => underWay.delete(session.id);
      recovering.then(
        () => {
          over();
          took.observe((performance.now() - started) / 1_000);
        },
        (error: unknown) => {
          over();
          recovered.inc({ result: 'failed' });
          log.warn('a session could not be begun again', { error });
        },
      );
      return recovering;
    },
    note: (session, messages) => memory.note(keyOf(session), messages),
    forget: (session) => memory.forget(keyOf(session)),
  };
}

function gone(): OutriderError {
  return new OutriderError('SESSION_NOT_FOUND', 'there is no such session: begin a new one');
}

function nowhere(cause?: unknown): OutriderError {
  return new OutriderError('UPSTREAM_UNREACHABLE', 'no server of the mesh can be reached', {
    cause,
  });
}
