import type { Clock } from '#core/clock';
import { OutriderError } from '#core/errors';
import type { Metrics } from '#core/metrics';
import type { Principal } from '#core/principal';
import type { EndedSessions } from './ended-sessions.ts';
import type { KeyRing } from './key-ring.ts';
import { OpenedSessions } from './opened-sessions.ts';
import {
  type ClientParameters,
  openSession,
  SEALED_MAX_CHARACTERS,
  type SessionContent,
  sealSession,
} from './sealed-id.ts';

/** A session that its client may use. */
export interface Session extends SessionContent {
  /** As the client knows it. */
  readonly id: string;
}

/** Sessions of MCP, kept nowhere but in their own ids. */
export interface Sessions {
  /**
   * The session that a client names. Whether an id is another principal's, forged, expired or ended is not told.
   * @throws {OutriderError} SESSION_NOT_FOUND
   */
  open(id: string, principal: Principal): Session;
  /**
   * The id that a client gets for the session `upstreamId` that `backend` (or `ANY_SERVER`) has begun for it.
   * @throws {OutriderError} UPSTREAM_UNREACHABLE for an id of the server that is too long to be carried
   */
  begin(
    backend: string,
    upstreamId: string,
    principal: Principal,
    client: ClientParameters | undefined,
  ): string;
  /** From now on the session is not found. Resolves when the other gateways were told, if that can be; never rejects. */
  end(session: Session, how: SessionEnd): Promise<void>;
}

/** `lost`: its server knows it no more, because it was idle for too long, or one too many, or the server began anew. */
export type SessionEnd = 'ended' | 'lost';

export function createSessions(deps: {
  readonly ring: () => KeyRing;
  /** Where the sessions are of use. */
  readonly route: string;
  /** How long one lasts, whatever is done with it. */
  readonly lifeMs: number;
  readonly metrics: Metrics;
  readonly ended: EndedSessions;
  readonly now?: Clock;
}): Sessions {
  const { ring, route, lifeMs, metrics, ended, now = Date.now } = deps;
  const opened = new OpenedSessions<Session & { readonly key: string }>();
  const events = metrics.counter(
    'outrider_sessions_total',
    'Sessions of MCP: begun, unrecoverable (begun, and too large to carry what would begin it again), ended, lost by their server, and those not found, by why',
    ['event'],
  );
  const notFound = (event: string): never => {
    events.inc({ event });
    throw new OutriderError('SESSION_NOT_FOUND', 'there is no such session: begin a new one');
  };

  return {
    open(id, principal) {
      const keys = ring();
      const at = now();
      let session = opened.find(id, principal, keys);
      if (!session || session.expiresAt <= at) {
        const content = openSession(id, { principal, route }, keys, at);
        if (typeof content === 'string') return notFound(content);
        session = opened.note({ id, key: keyOf(content), ...content }, principal, keys);
      }
      if (ended.has(session.key)) return notFound('replayed');
      return session;
    },
    begin(backend, upstreamId, principal, client) {
      const seal = (parameters: ClientParameters | null) =>
        sealSession(
          { backend, upstreamId, expiresAt: now() + lifeMs, client: parameters },
          { principal, route },
          ring(),
        );
      const whole = client === undefined ? undefined : seal(client);
      if (whole !== undefined && whole.length <= SEALED_MAX_CHARACTERS) {
        events.inc({ event: 'begun' });
        return whole;
      }
      const bare = seal(null);
      if (bare.length > SEALED_MAX_CHARACTERS)
        throw new OutriderError(
          'UPSTREAM_UNREACHABLE',
          'the session id of a server is too long to be carried',
        );
      events.inc({ event: 'unrecoverable' });
      return bare;
    },
    end(session, how) {
      events.inc({ event: how });
      return ended.add(keyOf(session), session.expiresAt);
    },
  };
}

/** What a session is known by, whoever knows it. Never the text of its id: one session can be sealed more than once. */
export function keyOf({ backend, upstreamId }: SessionContent): string {
  return `${backend}\n${upstreamId}`;
}
