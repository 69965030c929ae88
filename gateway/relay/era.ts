import type { IncomingHttpHeaders } from 'node:http';
import { NAMED_BY, standsFor } from '#core/mcp-name';
import type { Message } from './message.ts';
import { ProtocolError, RPC } from './protocol-error.ts';

/** `legacy`: sessions, revisions up to 2025-11-25. `modern`: stateless, 2026-07-28 and later. */
export type Era = 'legacy' | 'modern';

const FIRST_MODERN = '2026-07-28';

/**
 * By the version header; `assertHeadersAgree` holds the body against it.
 * @throws {ProtocolError} INVALID_REQUEST with HeaderMismatch where it came more than once: who reads one of them reads another era
 */
export function eraOf(headers: IncomingHttpHeaders): Era {
  const version = headers['mcp-protocol-version'];
  if (version === undefined) return 'legacy';
  if (typeof version !== 'string' || version.includes(','))
    throw mismatch(null, 'MCP-Protocol-Version came more than once');
  return isModern(version) ? 'modern' : 'legacy';
}

function isModern(version: string): boolean {
  return /^\d{4}-\d\d-\d\d$/.test(version) && version >= FIRST_MODERN;
}

/**
 * Holds the headers that mirror the body (2026-07-28) against it: whoever routes by them and whoever reads the body must see the same
 * call, in the same era. What is said must be true in either era; what a modern request must say must be there. A batch has no
 * headers that could speak for all of it, and is no part of that revision.
 * @throws {ProtocolError} INVALID_REQUEST, with HeaderMismatch but for a batch
 */
export function assertHeadersAgree(
  headers: IncomingHttpHeaders,
  messages: readonly Message[],
): void {
  const era = eraOf(headers);
  for (const message of messages) {
    const { id, batched, version } = message;
    if (batched && (era === 'modern' || isModern(version ?? '')))
      throw new ProtocolError(
        'INVALID_REQUEST',
        { code: RPC.invalidRequest, id },
        `a batch holds no messages of revision ${FIRST_MODERN} or later: send each by itself`,
      );
    assertSameVersion(headers, message);
    assertSameMethod(headers, message, era);
    assertSameName(headers, message, era);
  }
}

/** Clients of the session era name a version in neither place before theirs is agreed. */
function assertSameVersion(headers: IncomingHttpHeaders, { id, version }: Message): void {
  const said = headers['mcp-protocol-version'];
  if (version === undefined || version === said) return;
  if (said !== undefined) throw mismatch(id, untrue('MCP-Protocol-Version'));
  if (isModern(version)) throw mismatch(id, missing('MCP-Protocol-Version'));
}

function assertSameMethod(headers: IncomingHttpHeaders, { id, method }: Message, era: Era): void {
  const said = headers['mcp-method'];
  if (said === method) return;
  if (said !== undefined) throw mismatch(id, untrue('Mcp-Method'));
  if (era === 'modern' && isRequest(method)) throw mismatch(id, missing('Mcp-Method'));
}

function assertSameName(
  headers: IncomingHttpHeaders,
  { id, method, params }: Message,
  era: Era,
): void {
  const said = headers['mcp-name'];
  const named = NAMED_BY.get(method ?? '');
  if (said === undefined) {
    if (era === 'modern' && named !== undefined && typeof params[named] === 'string')
      throw mismatch(id, missing('Mcp-Name'));
    return;
  }
  const names = named === undefined ? ANY_NAME : [named];
  if (!names.some((name) => standsFor(String(said), params[name])))
    throw mismatch(id, untrue('Mcp-Name'));
}

/** For methods that are not known here. */
const ANY_NAME = ['name', 'uri', 'taskId'] as const;

/** Notifications need not be routed. */
function isRequest(method: string | undefined): boolean {
  return method !== undefined && !method.startsWith('notifications/');
}

const untrue = (header: string) => `the header ${header} does not say what the body says`;
const missing = (header: string) => `the header ${header} is missing`;

function mismatch(id: Message['id'], message: string): ProtocolError {
  return new ProtocolError('INVALID_REQUEST', { code: RPC.headerMismatch, id }, message);
}
