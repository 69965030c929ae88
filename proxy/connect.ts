import type { Duplex } from 'node:stream';
import { OutriderError } from '#core/errors';
import type { HttpRequest } from '#core/http-exchange';
import { authorize, type Permit, type TunnelTarget, tunnelTarget } from '#policies';
import { CheckedAddresses } from './addresses.ts';
import { identified } from './admission.ts';
import { refusedTarget } from './answer.ts';
import type { ExchangeRecord } from './exchange-record.ts';
import { type Exchanged, withExchanged } from './forward.ts';
import { valuesOf } from './headers.ts';
import type { OpenExchange } from './open-exchanges.ts';
import type { Parts } from './parts.ts';
import { answerTooLarge, requestTooLarge, type TakenPlace, takePlace } from './places.ts';
import { readHelloFor, splice } from './tunnel.ts';

/**
 * One tunnel: the server name of its TLS hello must be the host that was allowed, before anything is dialled. The name is resolved
 * before the 200, so that a refusal of its addresses still has a status. `answered.ok` says that the 200 has gone out.
 */
export async function connectThrough(
  parts: Parts,
  request: HttpRequest,
  socket: Duplex,
  head: Buffer,
  record: ExchangeRecord,
  answered: { ok: boolean },
): Promise<Partial<Exchanged>> {
  const caller = await identified(parts, request, record);
  const target = connectTarget(request);
  record.aimedAt(target);
  const permit = authorize(caller.policy, target, Date.now());
  record.allowedBy(permit.decision);
  // Of a tunnel's head nothing goes out but the name.
  const named = { host: target.host.text, pathAndQuery: '', rawHeaders: [] };
  parts.held.assertAbsent(caller.set, named, permit.decision.rule);
  // Before a place is waited for: what is no longer allowed then does not go out.
  const open = parts.open.begin(caller, target, permit.decision.limits);
  let place: TakenPlace | undefined;
  try {
    place = await takePlace(parts, caller, target, permit.decision);
    const came = await carry(parts, socket, head, permit, open, place, record, answered);
    parts.audit.record(record.completed(came), record.labels);
    return came;
  } catch (error) {
    // What it was cut by comes first, whatever broke because of that.
    throw open.cutBy ?? error;
  } finally {
    open.close();
    place?.release();
  }
}

/** An allowed tunnel, from the look-up of its name to its end. */
async function carry(
  parts: Parts,
  socket: Duplex,
  head: Buffer,
  permit: Permit<TunnelTarget>,
  open: OpenExchange,
  place: TakenPlace,
  record: ExchangeRecord,
  answered: { ok: boolean },
): Promise<Exchanged> {
  const { target, decision } = permit;
  const addresses = CheckedAddresses.check(permit, await parts.resolver.resolve(target.host.text));
  if (open.cutBy) throw open.cutBy;
  if (socket.destroyed) throw gone();
  open.onCut(() => socket.destroy());
  socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
  answered.ok = true;
  const hello = await readHelloFor(target, socket, head);
  record.sentOn();
  const began = performance.now();
  const upstream = await parts.dial(target.host.text, addresses, {
    port: target.port,
    timeoutMs: parts.connectTimeoutMs,
  });
  if (socket.destroyed) {
    upstream.destroy();
    throw gone();
  }
  open.onCut(() => {
    socket.destroy();
    upstream.destroy();
  });
  const upstreamMs = performance.now() - began;
  const { requestBytes = Infinity, responseBytes = Infinity } = decision.limits;
  const counted = { bytes: 0 };
  parts.metrics.tunnels.inc();
  const spliced = await splice(socket, upstream, hello, {
    idleMs: parts.tunnelIdleMs,
    onBytes(bytesIn, bytesOut) {
      if (bytesIn > requestBytes) open.cut(requestTooLarge(decision.rule));
      else if (bytesOut > responseBytes) open.cut(answerTooLarge(decision.rule));
      const more = bytesIn + bytesOut - counted.bytes;
      counted.bytes += more;
      const usedUp = place.spend(more);
      if (usedUp) open.cut(usedUp);
    },
  });
  parts.metrics.tunnels.dec();
  const came = { status: 200, redactions: 0, upstreamMs, ...spliced };
  if (open.cutBy) throw withExchanged(open.cutBy, came);
  return came;
}

function gone(): OutriderError {
  return new OutriderError('CANCELLED', 'the caller gave up');
}

function connectTarget(request: HttpRequest): TunnelTarget {
  const hosts = valuesOf(request.rawHeaders, 'host');
  if (hosts.length > 1) throw refusedTarget('host_duplicate');
  if (hosts.length === 0) throw refusedTarget('host_missing');
  if (hosts[0] !== request.url) throw refusedTarget('host_mismatch');
  const canonical = tunnelTarget(request.url ?? '');
  if (!canonical.ok) throw refusedTarget(canonical.reason);
  return canonical.target;
}
