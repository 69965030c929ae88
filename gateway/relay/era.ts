import type { IncomingHttpHeaders } from 'node:http';
import type { Message } from './message.ts';
import { ProtocolError, RPC } from './protocol-error.ts';

/** `legacy`: sessions, revisions up to 2025-11-25. `modern`: stateless, 2026-07-28 and later. */
export type Era = 'legacy' | 'modern';

const FIRST_MODERN = '2026-07-28';

/** By the version header alone: the body decides only what the server makes of it. */
export function eraOf(headers: IncomingHttpHeaders): Era {
  const version = headers['mcp-protocol-version'];
  if (version === undefined) return 'legacy';
  return typeof version === 'string' && /^\d{4}-\d\d-\d\d$/.test(version) && version >= FIRST_MODERN
    ? 'modern'
    : 'legacy';
}

/**
 * Holds the headers that mirror the body (2026-07-28) against it, where they are sent: whoever routes by them and whoever reads
 * the body must see the same call. That they are missing is for the server to say.
 * @throws {ProtocolError} INVALID_REQUEST with HeaderMismatch
 */
export function assertHeadersAgree(
  headers: IncomingHttpHeaders,
  messages: readonly Message[],
): void {
  const [message] = messages;
  if (eraOf(headers) === 'legacy' || !message) return;
  const method = headers['mcp-method'];
  if (method !== undefined && method !== message.method) throw mismatch(message, 'Mcp-Method');
  const name = headers['mcp-name'];
  if (name !== undefined && !namesOf(message).includes(decoded(String(name))))
    throw mismatch(message, 'Mcp-Name');
}

function namesOf({ params }: Message): readonly unknown[] {
  return [params['name'], params['uri'], params['taskId']];
}

/** A value that is no header text comes as `=?base64?...?=`. */
function decoded(value: string): string {
  const base64 = /^=\?base64\?(.*)\?=$/.exec(value)?.[1];
  return base64 === undefined ? value : Buffer.from(base64, 'base64').toString('utf8');
}

function mismatch({ id }: Message, header: string): ProtocolError {
  return new ProtocolError(
    'INVALID_REQUEST',
    { code: RPC.headerMismatch, id },
    `the header ${header} does not say what the body says`,
  );
}
