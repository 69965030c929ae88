import { OutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import type { Balancer } from '../relay/balancer.ts';
import { isSound } from '../relay/health.ts';
import type { Message } from '../relay/message.ts';
import type { Upstream } from '../relay/upstream.ts';
import type { Session } from '../sessions/sessions.ts';
import { endAt, initialiseAt } from './initialise.ts';
import type { MovedSessions, SessionPlace } from './moved-sessions.ts';
import { SettingsMemory } from './session-settings.ts';

/** Gives sessions of servers that are gone a new place. */
export interface Recovery {
  /** Where a session is now, as far as this gateway knows. */
  placeOf(session: Session): SessionPlace;
  /** Whether a server with which a request was lost is gone, and not the one connection alone. */
  isGone(upstream: Upstream): Promise<boolean>;
  /**
   * The session's new place, after `lost` could not be reached: begun again with what its client once said. Requests of one
   * session that fail together share one.
   * @throws {OutriderError} SESSION_NOT_FOUND where the session cannot be begun again, UPSTREAM_UNREACHABLE where no server takes it
   */
  recover(session: Session, lost: SessionPlace): Promise<SessionPlace>;
  /** Remembers what a client has set. */
  note(session: Session, messages: readonly Message[]): void;
  forget(session: Session): void;
}

/** A process that was killed refuses at once; one that takes longer to say anything has other troubles. */
const SOUND_WITHIN_MS = 300;

export function createRecovery(deps: {
  readonly balancer: Balancer;
  readonly moved: MovedSessions;
  readonly log: Logger;
  readonly metrics: Metrics;
}): Recovery {
  const { balancer, moved, log, metrics } = deps;
  const memory = new SettingsMemory();
  const underWay = new Map<string, Promise<SessionPlace>>();
  const recovered = metrics.counter(
    'outrider_sessions_recovered_total',
    'Sessions whose server was gone, by what came of it',
    ['result'],
  );

  async function begin(session: Session, lost: SessionPlace): Promise<SessionPlace> {
    const known = moved.lookUp(lost);
    if (known.upstreamId !== lost.upstreamId || known.backend !== lost.backend) return known;
    if (!session.client) throw gone();
    const except = balancer.upstreams.find(({ url }) => url.href === lost.backend);
    const upstream = balancer.pick(except);
    if (!upstream || upstream.url.href === lost.backend)
      throw new OutriderError('UPSTREAM_UNREACHABLE', 'no server of the mesh can be reached');
    const upstreamId = await initialiseAt(upstream, session.client, memory.settingsOf(session.id));
    const place = moved.move(lost, { backend: upstream.url.href, upstreamId });
    if (place.upstreamId !== upstreamId) void endAt(upstream, upstreamId);
    return place;
  }

  return {
    placeOf: (session) => moved.current(session),
    isGone: async (upstream) => !(await isSound(upstream, SOUND_WITHIN_MS)),
    recover(session, lost) {
      const running = underWay.get(session.id);
      if (running) return running;
      const recovering = begin(session, lost).then(
        (place) => {
          recovered.inc({ result: 'ok' });
          return place;
        },
        (error: unknown) => {
          recovered.inc({ result: 'failed' });
          log.warn('a session could not be begun again', { error });
          throw error;
        },
      );
      underWay.set(session.id, recovering);
      const over = () => underWay.delete(session.id);
      recovering.then(over, over);
      return recovering;
    },
    note: (session, messages) => memory.note(session.id, messages),
    forget: (session) => memory.forget(session.id),
  };
}

function gone(): OutriderError {
  return new OutriderError('SESSION_NOT_FOUND', 'there is no such session: begin a new one');
}
