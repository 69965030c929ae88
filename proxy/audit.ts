import { statfsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  AUDIT_ROTATION,
  AuditChain,
  type AuditFields,
  AuditFile,
  type AuditHead,
  type AuditLabels,
  type AuditRotation,
  type AuditSink,
} from '#core/audit';
import { TurnSink, type Written } from '#core/audit-turn';
import { type OutriderError, toOutriderError } from '#core/errors';
import { auditSigningKey } from '#core/keys';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { ensurePrivateDir, writePrivateFile } from '#core/runtime-dir';
import { refused } from './refusal.ts';

/** Below this the disk counts as full: room for the records of what is under way. */
const FREE_MIN_BYTES = 1_048_576;
const FREE_CHECK_MS = 1_000;

/** The proxy's own chain of audit records. What cannot be recorded does not happen. */
export interface ProxyAudit {
  /** To be called before anything goes out. @throws {OutriderError} AUDIT_UNAVAILABLE */
  assertWritable(): void;
  /** Writes one record, with what it has in common with others as `labels`. @throws {OutriderError} AUDIT_UNAVAILABLE: the record is then owed, and nothing goes out until it is written */
  record(fields: AuditFields, labels?: AuditLabels): void;
  /** The same by the end of this turn of the event loop, with what else the turn has recorded; `written` is called once, with AUDIT_UNAVAILABLE where `record` had thrown. */
  recordInTurn(fields: AuditFields, labels: AuditLabels | undefined, written: Written): void;
  readonly head: AuditHead;
  close(): Promise<void>;
}

export interface ProxyAuditOptions {
  readonly directory: string;
  readonly keysDirectory: string;
  /** Which of several workers writes it; undefined: the proxy is one process. */
  readonly worker?: number | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Called at each checkpoint, for what is to be as safe as this chain then is. */
  readonly onCheckpoint: () => void;
  readonly checkpointMs?: number;
  readonly rotation?: AuditRotation;
}

/**
 * Opens `<directory>/proxy.jsonl`, or `proxy-<worker>.jsonl`, checkpoints it every 10 s (which is also when it is flushed to the disk: a power cut may take
 * what was written since), begins another file where it is full, and keeps its last signed head beside it in `*.head.json`, so that a cut tail is found.
 */
export function openAudit(options: ProxyAuditOptions): ProxyAudit {
  const { directory, keysDirectory, log, metrics } = options;
  ensurePrivateDir(directory);
  const name = options.worker === undefined ? 'proxy' : `proxy-${options.worker}`;
  const path = join(directory, `${name}.jsonl`);
  const file = new AuditFile(path, options.rotation ?? AUDIT_ROTATION);
  const sink: AuditSink = {
    previous: file.previous,
    append: (lines) => file.append(lines),
    turn: (bytes) => file.turn(bytes),
    flush: () => {
      file.flush();
      options.onCheckpoint();
      writePrivateFile(join(directory, `${name}.head.json`), `${JSON.stringify(audit.head)}\n`);
    },
    close: () => file.close(),
  };
  const audit = createAudit({
    sink,
    signingKey: auditSigningKey(keysDirectory, 'proxy'),
    checkpointMs: options.checkpointMs,
    log,
    metrics,
    freeBytes: freeSpace(dirname(path)),
  });
  return audit;
}

/** The promise of `ProxyAudit` over a sink. @throws {OutriderError} AUDIT_UNAVAILABLE where it does not take the first record */
export function createAudit(deps: {
  readonly sink: AuditSink;
  readonly signingKey?: ReturnType<typeof auditSigningKey>;
  readonly checkpointMs?: number | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** What the sink has room for. */
  readonly freeBytes: () => number;
}): ProxyAudit {
  const { signingKey, log, metrics, freeBytes } = deps;
  const turn = new TurnSink(deps.sink, (error, owed) =>
    log.error('audit records cannot be written', { error, detail: { owed } }),
  );
  const chain = new AuditChain('proxy', turn, { signingKey });
  turn.write();
  chain.startCheckpoints(deps.checkpointMs);
  metrics.gauge('outrider_audit_head_seq', 'Number of the last audit record.', [], (gauge) =>
    gauge.set(chain.head.seq),
  );
  const written = metrics.tally('outrider_audit_records_total', 'Audit records written.');
  const append = (fields: AuditFields, labels: AuditLabels | undefined): void => {
    chain.append(fields, labels);
    written.add(1);
  };

  return {
    get head() {
      return chain.head;
    },
    assertWritable() {
      const why = roomProblem(freeBytes);
      if (why !== undefined) throw unwritable(why);
      if (turn.failing) turn.write();
    },
    record(fields, labels) {
      try {
        append(fields, labels);
        turn.write();
      } catch (error) {
        log.error('an audit record cannot be written', { error });
        throw error;
      }
    },
    recordInTurn(fields, labels, told) {
      try {
        append(fields, labels);
      } catch (error) {
        log.error('an audit record is lost', { error });
        told(toOutriderError(error));
        return;
      }
      turn.afterwards(told);
    },
    close: () => chain.close(),
  };
}

function unwritable(because: unknown): OutriderError {
  return refused('AUDIT_UNAVAILABLE', 'the audit cannot be written', 'audit_backpressure', {
    because,
  });
}

/** Why there is no room, if so: also where the directory is gone. */
function roomProblem(freeBytes: () => number): unknown {
  try {
    if (freeBytes() >= FREE_MIN_BYTES) return undefined;
    return new Error('less than 1 MiB is free on the disk of the audit');
  } catch (error) {
    return error;
  }
}

/** Bytes that this user may still write, looked up once a second. */
function freeSpace(directory: string): () => number {
  let checkedAt = Number.NEGATIVE_INFINITY;
  let free = 0;
  return () => {
    if (performance.now() - checkedAt > FREE_CHECK_MS) {
      const { bavail, bsize } = statfsSync(directory);
      free = bavail * bsize;
      checkedAt = performance.now();
    }
    return free;
  };
}
