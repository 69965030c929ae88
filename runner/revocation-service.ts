import { type CallContext, type Report, serverStream } from '#core/grpc';
import type {
  RevocationServiceServer,
  WatchRevocationsRequest,
  WatchRevocationsResponse,
} from '#proto';
import type { Revocations } from './revocations.ts';

/**
 * Tells proxies which execs are over. `admit` says who may ask: on a socket that only the mesh can open, everybody.
 * The wire names execs by ids that cannot be guessed, and says nothing else of them.
 */
export function revocationService(
  revocations: Revocations,
  admit: (context: CallContext) => Promise<unknown>,
  report: Report,
): RevocationServiceServer {
  const watch = async function* (
    _request: WatchRevocationsRequest,
    context: CallContext,
  ): AsyncGenerator<WatchRevocationsResponse> {
    await admit(context);
    for await (const { revoked, synced } of revocations.watch(context.signal))
      yield {
        synced,
        revocations: revoked.map(({ execId, expiresAtMs }) => ({
          subject: { $case: 'execId', value: execId },
          expiresAt: new Date(expiresAtMs),
        })),
      };
  };
  return { watchRevocations: serverStream('WatchRevocations', watch, report) };
}
