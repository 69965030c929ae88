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
} from '#core/audit';
import type { OutriderError } from '#core/errors';
import { auditSigningKey } from '#core/keys';
import type { Logger } from '#core/log';
import type { Metrics } from '#core/metrics';
import { ensurePrivateDir, writePrivateFile } from '#core/runtime-dir';
import { refused } from './refusal.ts';

const AUDIT_FILE = 'proxy.jsonl';
const HEAD_FILE = 'proxy.head.json';

/** Below this the disk counts as full: room for the records of what is under way. */
const FREE_MIN_BYTES = 1_048_576;
const FREE_CHECK_MS = 1_000;
/** Records of exchanges that ended while the disk could not take them; written before anything new is let out. */
const OWED_MAX = 10_000;

/** The proxy's own chain of audit records. What cannot be recorded does not happen. */
export interface ProxyAudit {
  /** To be called before anything goes out. @throws {OutriderError} AUDIT_UNAVAILABLE */
  assertWritable(): void;
  /** Writes one record, with what it has in common with others as `labels`. @throws {OutriderError} AUDIT_UNAVAILABLE: the record is then owed, and nothing goes out until it is written */
  record(fields: AuditFields, labels?: AuditLabels): void;
  readonly head: AuditHead;
  close(): Promise<void>;
}

export interface ProxyAuditOptions {
  readonly directory: string;
  readonly keysDirectory: string;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Called at each checkpoint, for what is to be as safe as this chain then is. */
  readonly onCheckpoint: () => void;
  readonly checkpointMs?: number;
  readonly rotation?: AuditRotation;
}

/**
 * Opens `<directory>/proxy.jsonl`, checkpoints it every 10 s (which is also when it is flushed to the disk: a power cut may take
 * what was written since), begins another file where it is full, and keeps its last signed head in `proxy.head.json`, so that a cut tail is found.
 */
export function openAudit(options: ProxyAuditOptions): ProxyAudit {
  const { directory, keysDirectory, log, metrics } = options;
  ensurePrivateDir(directory);
  const path = join(directory, AUDIT_FILE);
  const file = new AuditFile(path, options.rotation ?? AUDIT_ROTATION);
  const publishHead = () =>
    writePrivateFile(join(directory, HEAD_FILE), `${JSON.stringify(chain.head)}\n`);
  const chain: AuditChain = new AuditChain(
    'proxy',
    {
      previous: file.previous,
      append: (line) => file.append(line),
      turn: (bytes) => file.turn(bytes),
      flush: () => {
        file.flush();
        options.onCheckpoint();
        publishHead();
      },
      close: () => file.close(),
    },
    { signingKey: auditSigningKey(keysDirectory, 'proxy') },
  );
  chain.startCheckpoints(options.checkpointMs);
  return createAudit({ chain, log, metrics, freeBytes: freeSpace(dirname(path)) });
}

/** The promise of `ProxyAudit` over a chain that is open. */
export function createAudit(deps: {
  readonly chain: AuditChain;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** What the sink has room for. */
  readonly freeBytes: () => number;
}): ProxyAudit {
  const { chain, log, metrics, freeBytes } = deps;
  metrics.gauge('outrider_audit_head_seq', 'Number of the last audit record.', [], (gauge) =>
    gauge.set(chain.head.seq),
  );
  const written = metrics.tally('outrider_audit_records_total', 'Audit records written.');
  const owed: { readonly fields: AuditFields; readonly labels: AuditLabels | undefined }[] = [];
  const append = (fields: AuditFields, labels?: AuditLabels): void => {
    chain.append(fields, labels);
    written.add(1);
  };
  const settle = (): void => {
    for (let next = owed[0]; next !== undefined; next = owed[0]) {
      append(next.fields, next.labels);
      owed.shift();
    }
  };

  return {
    get head() {
      return chain.head;
    },
    assertWritable() {
      if (freeBytes() < FREE_MIN_BYTES)
        throw unwritable('less than 1 MiB is free on the disk of the audit');
      settle();
    },
    record(fields, labels) {
      try {
        settle();
        append(fields, labels);
      } catch (error) {
        if (owed.length < OWED_MAX) owed.push({ fields, labels });
        log.error('an audit record cannot be written', { error });
        throw error;
      }
    },
    async close() {
      try {
        settle();
      } finally {
        await chain.close();
      }
    },
  };
}

function unwritable(why: string): OutriderError {
  return refused('AUDIT_UNAVAILABLE', 'the audit cannot be written', 'audit_backpressure', {
    because: new Error(why),
  });
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
