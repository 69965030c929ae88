import type { Principal } from '#core/principal';
import type { KeyRing } from './key-ring.ts';
import { openText, sealText, type Unsealed } from './seal.ts';

/** What a session id stands for; only gateways can read it. */
export interface SessionContent {
  /** The URL of the server that has the session, or `ANY_SERVER`. */
  readonly backend: string;
  /** That server's own id of it. */
  readonly upstreamId: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  /** What the client said when it began; null where it was too much to carry. */
  readonly client: ClientParameters | null;
}

/** In place of a server's URL, for a session that no server keeps: each of them serves it by its id alone. */
export const ANY_SERVER = '';

/** The parameters of `initialize`, with which the session could be begun again elsewhere. */
export interface ClientParameters {
  readonly protocolVersion: string;
  readonly capabilities: unknown;
  readonly clientInfo: unknown;
}

/** To whom and where an id is of use: one of another principal, tenant or route does not open. */
export interface SessionBinding {
  readonly principal: Principal;
  readonly route: string;
}

/** Why an id does not open. The caller is told none of it. */
export type Unopened = Unsealed | 'expired';

/** The longest id that a gateway gives or takes, in characters. */
export const SEALED_MAX_CHARACTERS = 2_048;

const VERSION = 'o1.';
const KIND = 'outrider:session';

/**
 * A session id that holds the session: `o1.<kid>.<base64url of iv, ciphertext, tag>`, AES-256-GCM with the binding as
 * associated data. Visible ASCII, as MCP wants; longer than `SEALED_MAX_CHARACTERS` where `content` is.
 */
export function sealSession(
  content: SessionContent,
  binding: SessionBinding,
  ring: KeyRing,
): string {
  const { backend, upstreamId, expiresAt, client } = content;
  const text = JSON.stringify([backend, upstreamId, expiresAt, client]);
  return VERSION + sealText(text, KIND, boundTo(binding), ring);
}

/** What `id` holds, or why it is of no use to this caller at `now`. Never throws. */
export function openSession(
  id: string,
  binding: SessionBinding,
  ring: KeyRing,
  now: number,
): SessionContent | Unopened {
  if (id.length > SEALED_MAX_CHARACTERS || !id.startsWith(VERSION)) return 'malformed';
  const opened = openText(id.slice(VERSION.length), KIND, boundTo(binding), ring);
  if (typeof opened === 'string') return opened;
  const content = contentOf(opened.text);
  if (!content) return 'malformed'; // of another version of this gateway
  return content.expiresAt <= now ? 'expired' : content;
}

function boundTo({ principal, route }: SessionBinding): readonly string[] {
  return [principal.issuer, principal.tenant, principal.subject, route];
}

function contentOf(text: string): SessionContent | undefined {
  const parsed: unknown = JSON.parse(text);
  if (!Array.isArray(parsed)) return undefined;
  const [backend, upstreamId, expiresAt, client]: unknown[] = parsed;
  return typeof backend === 'string' &&
    typeof upstreamId === 'string' &&
    typeof expiresAt === 'number' &&
    (client === null || isClientParameters(client))
    ? { backend, upstreamId, expiresAt, client }
    : undefined;
}

function isClientParameters(value: unknown): value is ClientParameters {
  return (
    typeof value === 'object' &&
    value !== null &&
    'protocolVersion' in value &&
    typeof value.protocolVersion === 'string' &&
    'capabilities' in value &&
    'clientInfo' in value
  );
}
