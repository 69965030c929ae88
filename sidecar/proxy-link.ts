import { connect } from 'node:net';
import { type Address, formatAddress, socketOptions } from '#core/address';
import type { AuditHead } from '#core/audit';
import { OutriderError } from '#core/errors';
import { Http1Pool } from '#core/http1/client';
import { connector } from '#core/http1/connect';
import { askWhole } from '#core/http1/whole';
import { isRecord } from '#core/is-record';
import { DeliveryRefused } from './delivery.ts';
import { intoOwnMemory } from './pour.ts';
import { type ProxyTls, tlsConnector } from './proxy-tls.ts';

/** Bounds of the hop to the proxy. */
export interface LinkLimits {
  readonly connections: number;
  readonly proxyTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** Where audit records of sidecars are stored, on the proxy's own address. */
export const AUDIT_PATH = '/.outrider/audit';
const CONNECT_TIMEOUT_MS = 5_000;
/** Of a connection without a request: less than the proxy keeps it. */
const IDLE_MS = 4_000;
/** More than a head of an audit chain. */
const ACKNOWLEDGEMENT_MAX_BYTES = 65_536;
/** Answers that sending the same lines again does not change. Of 401 the next token may be taken. */
const REFUSALS: ReadonlySet<number> = new Set([400, 403, 404, 405, 409, 413, 415]);
const DELIVERY_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 1_000;

/**
 * Connections to the proxy, and to nothing else whatever a request's target is: the pool has one address. Each exec has a pool
 * of its own, so that no connection outlives it. Nothing is pipelined; a connection in doubt is closed.
 */
export function proxyPool(proxy: Address, limits: LinkLimits, tls?: ProxyTls): Http1Pool {
  const plain = { ...socketOptions(proxy), onread: intoOwnMemory };
  return new Http1Pool({
    host: proxy.kind === 'unix' ? 'proxy' : formatAddress(proxy),
    connections: limits.connections,
    connect:
      tls && proxy.kind === 'tcp'
        ? tlsConnector(proxy, tls, CONNECT_TIMEOUT_MS)
        : connector(plain, { timeoutMs: CONNECT_TIMEOUT_MS }),
    headersTimeoutMs: limits.proxyTimeoutMs,
    bodyTimeoutMs: limits.idleTimeoutMs,
    idleMs: IDLE_MS,
  });
}

/**
 * Sends lines of an audit chain, each with its line feed, and resolves to the last record stored.
 * @throws {OutriderError} AUDIT_UNAVAILABLE when the proxy did not say that it has them; `DeliveryRefused` when it will not take them
 */
export async function postAudit(pool: Http1Pool, token: string, lines: Buffer): Promise<AuditHead> {
  const headers = [
    'content-type',
    'application/x-ndjson',
    'proxy-authorization',
    `Bearer ${token}`,
  ];
  const { status, body } = await askWhole(
    pool,
    { method: 'POST', path: AUDIT_PATH, headers, body: lines },
    { timeoutMs: DELIVERY_TIMEOUT_MS, maxBytes: ACKNOWLEDGEMENT_MAX_BYTES },
  );
  const answer = readJson(body);
  const head = acknowledged(answer);
  if (REFUSALS.has(status)) throw new DeliveryRefused(`status ${status}`, head);
  if (status !== 200 || !head)
    throw new OutriderError('AUDIT_UNAVAILABLE', 'the proxy did not store the audit records', {
      cause: `status ${status}`,
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

function readJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

function acknowledged(answer: unknown): AuditHead | undefined {
  if (!isRecord(answer) || !isRecord(answer['acknowledged'])) return undefined;
  const { writer, seq, hash } = answer['acknowledged'];
  return typeof writer === 'string' && typeof seq === 'number' && typeof hash === 'string'
    ? { writer, seq, hash }
    : undefined;
}
