import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { Principal } from '#core/principal';
import type { KeyRing } from './key-ring.ts';

/** What a session id stands for; only gateways can read it. */
export interface SessionContent {
  /** The URL of the server that has the session. */
  readonly backend: string;
  /** That server's own id of it. */
  readonly upstreamId: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  /** What the client said when it began; null where it was too much to carry. */
  readonly client: ClientParameters | null;
}

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
export type Unopened = 'malformed' | 'unknown_key' | 'forged' | 'expired';

/** The longest id that a gateway gives or takes, in characters. */
export const SEALED_MAX_CHARACTERS = 2_048;

const CIPHER = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG_BYTES = 16;
const SHAPE = /^o1\.([\w-]{1,32})\.([\w-]+)$/;

/**
 * A session id that holds the session: `o1.<kid>.<base64url of iv, ciphertext, tag>`, AES-256-GCM with the binding as
 * associated data. Visible ASCII, as MCP wants; longer than `SEALED_MAX_CHARACTERS` where `content` is.
 */
export function sealSession(
  content: SessionContent,
  binding: SessionBinding,
  { first }: KeyRing,
): string {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, first.key, iv);
  cipher.setAAD(associated(binding, first.kid));
  const { backend, upstreamId, expiresAt, client } = content;
  const text = JSON.stringify([backend, upstreamId, expiresAt, client]);
  const sealed = Buffer.concat([
    iv,
    cipher.update(text, 'utf8'),
    cipher.final(),
    cipher.getAuthTag(),
  ]);
  return `o1.${first.kid}.${sealed.toString('base64url')}`;
}

/** What `id` holds, or why it is of no use to this caller at `now`. Never throws. */
export function openSession(
  id: string,
  binding: SessionBinding,
  ring: KeyRing,
  now: number,
): SessionContent | Unopened {
  const [, kid = '', text = ''] = (id.length <= SEALED_MAX_CHARACTERS && SHAPE.exec(id)) || [];
  const bytes = Buffer.from(text, 'base64url');
  // One session has one spelling, else it could be ended in one and used in another.
  if (bytes.length <= IV_BYTES + TAG_BYTES || bytes.toString('base64url') !== text)
    return 'malformed';
  const key = ring.find(kid);
  if (!key) return 'unknown_key';
  const decipher = createDecipheriv(CIPHER, key.key, bytes.subarray(0, IV_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(associated(binding, kid));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  let opened: string;
  try {
    opened = decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES), undefined, 'utf8');
    opened += decipher.final('utf8');
  } catch {
    return 'forged';
  }
  const content = contentOf(opened);
  if (!content) return 'malformed'; // of another version of this gateway
  return content.expiresAt <= now ? 'expired' : content;
}

function associated({ principal, route }: SessionBinding, kid: string): Buffer {
  const { issuer, tenant, subject } = principal;
  return Buffer.from(JSON.stringify(['outrider:session', kid, issuer, tenant, subject, route]));
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
