import { hash as digest } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { CompactSign, compactVerify, createLocalJWKSet, importJWK } from 'jose';
import { OutriderError } from './errors.ts';
import { newId } from './ids.ts';
import { redactText } from './redact.ts';
import type { SigningKey, TrustedIssuer } from './tokens.ts';

/** What an audit record may say. Every field has one meaning in every part; absent means unknown or not applicable. */
export interface AuditFields {
  /**
   * `start` and `end` of a writer; `request` out of a sandbox; `exec`; `call` of a tool; `receipt` of another writer's
   * records; `checkpoint` of this chain; `policy` loaded or refused.
   */
  readonly event:
    | 'start'
    | 'end'
    | 'request'
    | 'exec'
    | 'call'
    | 'receipt'
    | 'checkpoint'
    | 'policy'
    | 'auth'
    | 'sandbox'
    | 'revocation'
    | 'secret'
    | 'config';
  /** Of the call that caused it: the same from gateway to proxy. */
  readonly requestId?: string | undefined;
  /** Of one request out of a sandbox: the same at its sidecar and at the proxy. */
  readonly egressId?: string | undefined;
  /** W3C trace id, where the caller sent one. */
  readonly traceId?: string | undefined;
  readonly issuer?: string | undefined;
  readonly subject?: string | undefined;
  readonly tenant?: string | undefined;
  readonly role?: string | undefined;
  readonly sandboxId?: string | undefined;
  readonly execId?: string | undefined;
  /** On whose behalf the caller says that it runs, e.g. the name of a tool. */
  readonly purpose?: string | undefined;
  /** `forward`, `connect`, `alias`, `socks5`, `grpc`, `mcp`. */
  readonly ingress?: string | undefined;
  readonly method?: string | undefined;
  /** The canonical target, without query. */
  readonly target?: string | undefined;
  /** Query or statement, at most 500 characters, secrets removed; only where the role does not forbid it. */
  readonly query?: string | undefined;
  readonly verdict?: 'allow' | 'deny' | 'limit' | 'error' | undefined;
  /** The policy document that the rule stands in. */
  readonly policy?: string | undefined;
  readonly rule?: string | undefined;
  /** What a policy in report mode would have said. */
  readonly reportedRule?: string | undefined;
  readonly reportedReason?: string | undefined;
  /** The jti of the execution token. */
  readonly tokenId?: string | undefined;
  /** One of the closed list of denial reasons. */
  readonly reason?: string | undefined;
  readonly code?: string | undefined;
  readonly policyDigest?: string | undefined;
  readonly policyCommit?: string | undefined;
  readonly policySerial?: number | undefined;
  readonly datasource?: string | undefined;
  /** The name of the credential binding or secret slot that was used; never its value. */
  readonly credential?: string | undefined;
  readonly status?: number | undefined;
  readonly bytesIn?: number | undefined;
  readonly bytesOut?: number | undefined;
  readonly durationMs?: number | undefined;
  readonly upstreamMs?: number | undefined;
  readonly killedBy?: string | undefined;
  readonly cpuMs?: number | undefined;
  readonly maxRssBytes?: number | undefined;
  readonly stdoutBytes?: number | undefined;
  readonly stderrBytes?: number | undefined;
  readonly backend?: string | undefined;
  readonly tier?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly tool?: string | undefined;
  readonly session?: string | undefined;
  readonly detail?: string | undefined;
  /** Of `start`: the writer before this one in the same file, its last seq and the hash of its last line. */
  readonly previous?: AuditHead | undefined;
  /** Of `receipt` and `checkpoint`: whose chain, up to where. */
  readonly head?: AuditHead | undefined;
  /** Of `checkpoint`: a compact JWS over `head`. */
  readonly signature?: string | undefined;
}

/** A position in a chain: the hash of the line with that number. */
export interface AuditHead {
  readonly writer: string;
  readonly seq: number;
  readonly hash: string;
}

/** Where lines go. `append` throws when the line is not safe; the caller then refuses what it was about to do. */
export interface AuditSink {
  append(line: string): void;
  /** Called with every checkpoint. */
  flush?(): void;
  close?(): void;
  /** The head of what the sink held before this writer. */
  readonly previous?: AuditHead | undefined;
}

export const ZERO_HASH = '0'.repeat(64);

/** SHA-256 of a line without its line feed, as the next line's `prev` has it. */
export function hashLine(line: string): string {
  return digest('sha256', line, 'hex');
}

/**
 * A chain of audit records: numbered from 0, each naming the hash of the one before, so that a changed byte, a gap and
 * (against a checkpoint, a receipt or a published head) a cut tail are found. One chain per process or attachment; the writer of
 * an attachment's chain is `sc-<sandboxId>`, so that the proxy can tell whose it is.
 */
export class AuditChain {
  readonly writer: string;
  readonly #part: string;
  readonly #sink: AuditSink;
  readonly #now: () => number;
  readonly #signer: ((head: AuditHead) => Promise<string>) | undefined;
  #seq = 0;
  #prev = ZERO_HASH;
  #timer: NodeJS.Timeout | undefined;
  #checkpointed = -1;
  #started = false;

  /** With `silent` the chain begins with its first record: one that has nothing to tell holds no record at all. */
  constructor(
    part: string,
    sink: AuditSink,
    options: {
      now?: () => number;
      signingKey?: SigningKey | undefined;
      writer?: string;
      silent?: boolean;
    } = {},
  ) {
    this.#part = part;
    this.#sink = sink;
    this.#now = options.now ?? Date.now;
    this.writer = options.writer ?? newId('w');
    this.#signer = options.signingKey === undefined ? undefined : headSigner(options.signingKey);
    if (options.silent !== true) this.#start();
  }

  /** The last record written; its number is -1 while there is none. */
  get head(): AuditHead {
    return { writer: this.writer, seq: this.#seq - 1, hash: this.#prev };
  }

  /** Writes one record. @throws {OutriderError} AUDIT_UNAVAILABLE: what was to be recorded must then not happen */
  append(fields: AuditFields): void {
    if (!this.#started) this.#start();
    this.#append(fields);
  }

  #start(): void {
    this.#append({ event: 'start', previous: this.#sink.previous });
    this.#started = true;
  }

  #append(fields: AuditFields): void {
    const line = redactText(
      JSON.stringify({
        v: 1,
        part: this.#part,
        writer: this.writer,
        seq: this.#seq,
        time: new Date(this.#now()).toISOString(),
        ...fields,
        signature: undefined,
        prev: this.#prev,
      }),
    );
    this.#write(line);
  }

  /** Writes a signed checkpoint every 10 s, where there was a record since the last. */
  startCheckpoints(intervalMs = 10_000): void {
    this.#timer ??= setInterval(() => void this.checkpoint().catch(() => {}), intervalMs).unref();
  }

  async checkpoint(): Promise<void> {
    if (this.#signer === undefined || this.#seq - 1 <= this.#checkpointed) return;
    const head = this.head;
    const signature = await this.#signer(head);
    const more = this.#seq - 1 > head.seq; // written while this was being signed: the next checkpoint is theirs
    // The signature is a JWS, which `append` would redact as a token; it is public, so it is written past that.
    this.#write(
      JSON.stringify({
        v: 1,
        part: this.#part,
        writer: this.writer,
        seq: this.#seq,
        time: new Date(this.#now()).toISOString(),
        event: 'checkpoint',
        head,
        signature,
        prev: this.#prev,
      }),
    );
    this.#checkpointed = more ? head.seq : this.#seq - 1;
    this.#sink.flush?.();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.append({ event: 'end' });
    await this.checkpoint();
    this.#sink.close?.();
  }

  #write(line: string): void {
    try {
      this.#sink.append(line);
    } catch (error) {
      throw error instanceof OutriderError
        ? error
        : new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', { cause: error });
    }
    this.#prev = hashLine(line);
    this.#seq += 1;
  }
}

/**
 * A file of records, one a line, mode 0600, only ever appended to; flushed to disk with every checkpoint. A last line that a
 * crash cut short is ended first, and stays for `outrider audit verify` to report.
 */
export class AuditFile implements AuditSink {
  readonly previous: AuditHead | undefined;
  readonly #fd: number;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#fd = openSync(path, 'a+', 0o600);
    const tail = readTail(this.#fd);
    if (tail !== '' && !tail.endsWith('\n')) writeSync(this.#fd, '\n');
    this.previous = lastHead(tail);
  }

  append(line: string): void {
    const bytes = Buffer.from(`${line}\n`, 'utf8');
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      // A full disk may take half a line; the next record must not be glued to it.
      if (at > 0) ftruncateSync(this.#fd, fstatSync(this.#fd).size - at);
      throw error;
    }
  }

  flush(): void {
    fsyncSync(this.#fd);
  }

  close(): void {
    fsyncSync(this.#fd);
    closeSync(this.#fd);
  }
}

export interface AuditFinding {
  /** 1-based line of the text given. */
  readonly line: number;
  readonly problem: string;
}

export interface AuditVerification {
  readonly records: number;
  readonly writers: readonly AuditHead[];
  readonly checkpoints: number;
  readonly findings: readonly AuditFinding[];
}

/**
 * Checks every chain in `lines`. Finds a changed byte, a missing, doubled or reordered record, a bad signature (where `trusted`
 * is given), and a tail cut below a head that is known from elsewhere: a later writer's `previous`, a `receipt`, or `heads`.
 */
export async function verifyAudit(
  lines: readonly string[],
  options: { trusted?: readonly TrustedIssuer[]; heads?: readonly AuditHead[] } = {},
): Promise<AuditVerification> {
  const findings: AuditFinding[] = [];
  const chains = new Map<string, { head: AuditHead; hashes: string[] }>();
  const promised: { head: AuditHead; line: number; here: boolean }[] = (options.heads ?? []).map(
    (head) => ({ head, line: 0, here: true }),
  );
  let records = 0;
  let checkpoints = 0;

  for (const [index, line] of lines.entries()) {
    if (line === '') continue;
    const at = index + 1;
    const entry = readLine(line);
    if (!entry) {
      findings.push({
        line: at,
        problem: 'not an audit record: the line is damaged or was cut short',
      });
      continue;
    }
    records += 1;
    const chain = chains.get(entry.writer) ?? {
      head: { writer: entry.writer, seq: -1, hash: ZERO_HASH },
      hashes: [],
    };
    if (entry.seq !== chain.head.seq + 1)
      findings.push({
        line: at,
        problem: `writer ${entry.writer}: record ${chain.head.seq + 1} expected, ${entry.seq} found`,
      });
    else if (entry.prev !== chain.head.hash)
      findings.push({
        line: at,
        problem: `writer ${entry.writer}: record ${entry.seq} does not continue record ${entry.seq - 1}: one of them was changed`,
      });
    const found = hashLine(line);
    chain.head = { writer: entry.writer, seq: entry.seq, hash: found };
    chain.hashes[entry.seq] = found;
    chains.set(entry.writer, chain);
    // A receipt may be of a chain kept in another file; the writer before in the same file must be here.
    if (entry.previous) promised.push({ head: entry.previous, line: at, here: true });
    if (entry.head) promised.push({ head: entry.head, line: at, here: false });
    if (entry.event === 'checkpoint') {
      checkpoints += 1;
      if (entry.head?.writer !== entry.writer)
        findings.push({
          line: at,
          problem: `writer ${entry.writer}: the checkpoint is of another chain`,
        });
      else if (
        options.trusted &&
        !(await signatureHolds(entry.signature, entry.head, options.trusted))
      )
        findings.push({
          line: at,
          problem: `writer ${entry.writer}: the checkpoint's signature is not by a known key, or not over this head`,
        });
    }
  }
  for (const { head, line, here } of promised) {
    const chain = chains.get(head.writer);
    if (!chain) {
      if (here)
        findings.push({
          line,
          problem: `writer ${head.writer}: expected up to record ${head.seq}, nothing found`,
        });
    } else if (chain.head.seq < head.seq) {
      findings.push({
        line,
        problem: `writer ${head.writer}: the chain ends at record ${chain.head.seq}, but record ${head.seq} is known to have been written: the tail was cut`,
      });
    } else if (chain.hashes[head.seq] !== head.hash) {
      findings.push({
        line,
        problem: `writer ${head.writer}: record ${head.seq} is not the one that was acknowledged`,
      });
    }
  }
  return {
    records,
    writers: [...chains.values()].map((chain) => chain.head),
    checkpoints,
    findings,
  };
}

interface AuditLine {
  readonly event: string;
  /** Empty where the line does not name it as text. The same holds for `sandboxId`, which may also be absent. */
  readonly part: string;
  readonly sandboxId: string | undefined;
  readonly writer: string;
  readonly seq: number;
  readonly prev: string;
  readonly previous: AuditHead | undefined;
  readonly head: AuditHead | undefined;
  readonly signature: string;
}

/** One line as far as its place in a chain is concerned; undefined where it is not a record. */
export function readLine(line: string): AuditLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isRecord(value)) return undefined;
  const { v, event, writer, seq, prev, signature } = value;
  if (
    v !== 1 ||
    typeof event !== 'string' ||
    typeof writer !== 'string' ||
    typeof prev !== 'string'
  )
    return undefined;
  if (typeof seq !== 'number' || !Number.isSafeInteger(seq) || seq < 0) return undefined;
  const { part, sandboxId } = value;
  return {
    event,
    part: typeof part === 'string' ? part : '',
    sandboxId: sandboxId === undefined || typeof sandboxId === 'string' ? sandboxId : '',
    writer,
    seq,
    prev,
    previous: readHead(value['previous']),
    head: readHead(value['head']),
    signature: typeof signature === 'string' ? signature : '',
  };
}

function readHead(value: unknown): AuditHead | undefined {
  if (!isRecord(value)) return undefined;
  const { writer, seq, hash } = value;
  return typeof writer === 'string' && typeof seq === 'number' && typeof hash === 'string'
    ? { writer, seq, hash }
    : undefined;
}

function headSigner(key: SigningKey): (head: AuditHead) => Promise<string> {
  const imported = importJWK(key.jwk, 'EdDSA');
  return async (head) =>
    new CompactSign(headBytes(head))
      .setProtectedHeader({
        alg: 'EdDSA',
        typ: 'outrider-audit-head',
        ...(key.jwk.kid === undefined ? {} : { kid: key.jwk.kid }),
      })
      .sign(await imported);
}

async function signatureHolds(
  signature: string,
  head: AuditHead | undefined,
  trusted: readonly TrustedIssuer[],
): Promise<boolean> {
  if (!head) return false;
  try {
    const keys = createLocalJWKSet({ keys: trusted.flatMap((issuer) => [...issuer.keys]) });
    const { payload, protectedHeader } = await compactVerify(signature, keys, {
      algorithms: ['EdDSA'],
    });
    return (
      protectedHeader.typ === 'outrider-audit-head' && Buffer.from(payload).equals(headBytes(head))
    );
  } catch {
    return false;
  }
}

function headBytes({ writer, seq, hash }: AuditHead): Buffer {
  return Buffer.from(`${writer}\n${seq}\n${hash}`, 'utf8');
}

/** The last 64 KiB, which hold the last line: records are far smaller. */
function readTail(fd: number): string {
  const size = fstatSync(fd).size;
  const length = Math.min(size, 65_536);
  const buffer = Buffer.alloc(length);
  readSync(fd, buffer, 0, length, size - length);
  return buffer.toString('utf8');
}

function lastHead(tail: string): AuditHead | undefined {
  for (const line of tail.split('\n').toReversed()) {
    const entry = readLine(line);
    if (entry) return { writer: entry.writer, seq: entry.seq, hash: hashLine(line) };
  }
  return undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
