import { EventEmitter, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata } from '@grpc/grpc-js';
import { type Address, formatAddress } from '#core/address';
import type { Logger } from '#core/log';
import { type Revocation, RevocationServiceClient, type WatchRevocationsResponse } from '#proto';
import type { Revocations, RevokedSubject } from './revocations.ts';

/** A runner sends a keep-alive every 10 s: beyond this its stream is half open. */
const SILENCE_MS = 25_000;
const RETRY_MS = 250;

export interface RevocationStreams {
  /** Runners whose list has been told in full and whose stream goes on. */
  readonly synced: number;
  /** Resolves when that is true of all runners, or after `ms`. */
  allSynced(ms: number): Promise<void>;
  close(): void;
}

/**
 * Subscribes to every runner, and again whenever a stream ends: what ended meanwhile is told first. While a runner cannot be reached,
 * the life of an execution token is the bound, as it says itself.
 */
export function watchRunners(
  runners: readonly Address[],
  revocations: Revocations,
  { log, onSynced = () => {} }: { log: Logger; onSynced?: (count: number) => void },
): RevocationStreams {
  const stopping = new AbortController();
  const synced = new Set<Address>();
  const all = new EventEmitter();
  const setSynced = (runner: Address, is: boolean): void => {
    if (is === synced.has(runner)) return;
    if (is) synced.add(runner);
    else synced.delete(runner);
    onSynced(synced.size);
    if (synced.size === runners.length) all.emit('synced');
    log.info(is ? 'a runner tells what has ended' : 'a runner tells no longer what has ended', {
      address: formatAddress(runner),
    });
  };
  for (const runner of runners)
    void follow(runner, revocations, (is) => setSynced(runner, is), stopping.signal);
  return {
    get synced() {
      return synced.size;
    },
    async allSynced(ms) {
      if (synced.size === runners.length) return;
      const late = AbortSignal.any([stopping.signal, AbortSignal.timeout(ms)]);
      await once(all, 'synced', { signal: late }).catch(() => {});
    },
    close: () => stopping.abort(),
  };
}

/** Never rejects. */
async function follow(
  runner: Address,
  revocations: Revocations,
  setSynced: (is: boolean) => void,
  signal: AbortSignal,
): Promise<void> {
  const target = runner.kind === 'unix' ? `unix:${runner.path}` : formatAddress(runner);
  const client = new RevocationServiceClient(target, credentials.createInsecure(), {
    'grpc.initial_reconnect_backoff_ms': RETRY_MS,
    'grpc.min_reconnect_backoff_ms': RETRY_MS,
    'grpc.max_reconnect_backoff_ms': RETRY_MS,
  });
  while (!signal.aborted) {
    await listen(client, revocations, setSynced, signal);
    setSynced(false);
    await sleep(RETRY_MS, undefined, { signal, ref: false }).catch(() => {});
  }
  client.close();
}

/** One stream, to its end. */
function listen(
  client: RevocationServiceClient,
  revocations: Revocations,
  setSynced: (is: boolean) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const call = client.watchRevocations({}, new Metadata());
    const silence = setTimeout(() => call.cancel(), SILENCE_MS).unref();
    const stop = (): void => call.cancel();
    const over = (): void => {
      clearTimeout(silence);
      signal.removeEventListener('abort', stop);
      resolve();
    };
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    call.on('data', (news: WatchRevocationsResponse) => {
      silence.refresh();
      for (const revocation of news.revocations) revocations.add(subjectOf(revocation));
      if (news.synced) setSynced(true);
    });
    call.once('error', over).once('end', over);
  });
}

/** What a newer runner may name, and this proxy does not know, must not be passed over. */
function subjectOf({ subject }: Revocation): RevokedSubject {
  if (subject === undefined || subject.value === '') return { kind: 'all' };
  const kind = ({ execId: 'exec', sandboxId: 'sandbox', tokenId: 'token' } as const)[subject.$case];
  return { kind, id: subject.value };
}
