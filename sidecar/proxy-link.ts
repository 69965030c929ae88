import { connect } from 'node:net';
import { type Address, formatAddress, socketOptions } from '#core/address';
import type { AuditHead } from '#core/audit';
import { OutriderError } from '#core/errors';
import { isRecord } from '#core/is-record';
import { DeliveryRefused } from './delivery.ts';
import { intoOwnMemory } from './pour.ts';
import { type ProxyTls, tlsConnector } from './proxy-tls.ts';
import { Pool, request } from './undici.ts';

/** Bounds of the hop to the proxy. */
export interface LinkLimits {
  readonly connections: number;
  readonly proxyTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** Where audit records of sidecars are stored, on the proxy's own address. */
export const AUDIT_PATH = '/.outrider/audit';
const CONNECT_TIMEOUT_MS = 5_000;
/** Answers that sending the same lines again does not change. Of 401 the next token may be taken. */
const REFUSALS: ReadonlySet<number> = new Set([400, 403, 404, 405, 409, 413, 415]);
const PROBE_TIMEOUT_MS = 1_000;

/**
 * Connections to the proxy, and to nothing else whatever a request's target is: the pool has one address. Each exec has a pool
 * of its own, so that no connection outlives it. Nothing is pipelined; a connection in doubt is closed by undici.
 */
export function proxyPool(proxy: Address, limits: LinkLimits, tls?: ProxyTls): Pool {
  const unix = proxy.kind === 'unix' ? { socketPath: proxy.path } : {};
  const origin = proxy.kind === 'unix' ? 'http://proxy' : `http://${formatAddress(proxy)}`;
  return new Pool(origin, {
    connections: limits.connections,
    pipelining: 1,
    connect:
      tls && proxy.kind === 'tcp'
        ? tlsConnector(proxy, tls, CONNECT_TIMEOUT_MS)
        : { ...unix, timeout: CONNECT_TIMEOUT_MS, onread: intoOwnMemory },
    headersTimeout: limits.proxyTimeoutMs,
    bodyTimeout: limits.idleTimeoutMs,
    keepAliveTimeout: 4_000,
    maxResponseSize: -1,
  });
}

/**
 * Sends lines of an audit chain, each with its line feed, and resolves to the last record stored.
 * @throws {OutriderError} AUDIT_UNAVAILABLE when the proxy did not say that it has them; `DeliveryRefused` when it will not take them
 */
export async function postAudit(pool: Pool, token: string, lines: Buffer): Promise<AuditHead> {
  const { statusCode, body } = await request.call(pool, {
    method: 'POST',
    path: AUDIT_PATH,
    headers: ['content-type', 'application/x-ndjson', 'proxy-authorization', `Bearer ${token}`],
    body: lines,
    headersTimeout: CONNECT_TIMEOUT_MS,
    bodyTimeout: CONNECT_TIMEOUT_MS,
  });
  const answer: unknown = await body.json().catch(() => undefined);
  const head = acknowledged(answer);
  if (REFUSALS.has(statusCode)) throw new DeliveryRefused(`status ${statusCode}`, head);
  if (statusCode !== 200 || !head)
    throw new OutriderError('AUDIT_UNAVAILABLE', 'the proxy did not store the audit records', {
      cause: `status ${statusCode}`,
    });
  return head;
}

/** Undefined when the proxy can be reached, otherwise what a person should know. */
export function proxyProblem(proxy: Address): Promise<string | undefined> {
  return new Promise((resolve) => {
    const probe = connect(socketOptions(proxy));
    const done = (problem?: string) => {
      probe.destroy();
      resolve(problem);
    };
    probe.setTimeout(PROBE_TIMEOUT_MS, () => done('the proxy does not answer'));
    probe.once('connect', () => done());
    probe.once('error', () => done('the proxy cannot be reached'));
  });
}

function acknowledged(answer: unknown): AuditHead | undefined {
  if (!isRecord(answer) || !isRecord(answer['acknowledged'])) return undefined;
  const { writer, seq, hash } = answer['acknowledged'];
  return typeof writer === 'string' && typeof seq === 'number' && typeof hash === 'string'
    ? { writer, seq, hash }
    : undefined;
}
