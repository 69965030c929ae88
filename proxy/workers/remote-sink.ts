import { OutriderError, toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import { AuditGap, type AuditSink, type AuditStore } from '../audit-sink.ts';
import type { DeliveryAnswer, PrimaryDoor } from './doors.ts';

type Delivery = Parameters<PrimaryDoor['deliver']>[0];

/** The sink of the primary as a worker sees it: there is one for all, since a chain goes on wherever its next delivery arrives. */
export function createRemoteSink(primary: {
  readonly deliver: (delivery: Delivery) => Promise<DeliveryAnswer>;
  readonly flush: () => void;
}): AuditStore {
  return {
    async take(sandboxId, body, owner) {
      const answer = await primary.deliver({ sandboxId, body, owner });
      if (answer.ok) return answer.taken;
      const { code, message, cause } = answer;
      if (code === 'AUDIT_GAP') throw new AuditGap(answer.acknowledged, message);
      throw new OutriderError(code, message, cause === undefined ? {} : { cause });
    },
    flush: () => primary.flush(),
    close() {},
  };
}

/** Puts what was delivered on the disk. Nobody waits for it: what cannot be written now is the next flush's, and the log says so. */
export function flushSink(sink: Pick<AuditSink, 'flush'>, log: Logger): void {
  try {
    sink.flush();
  } catch (error) {
    log.error('the audit of the sidecars cannot be flushed', { error });
  }
}

/** What the primary answers it. */
export function deliverTo(sink: AuditSink, { sandboxId, body, owner }: Delivery): DeliveryAnswer {
  try {
    return { ok: true, taken: sink.take(sandboxId, body, owner) };
  } catch (thrown) {
    const error = toOutriderError(thrown);
    return {
      ok: false,
      code: error.code,
      message: error.message,
      cause: error.cause instanceof Error ? error.cause.message : undefined,
      acknowledged: error instanceof AuditGap ? error.acknowledged : null,
    };
  }
}
