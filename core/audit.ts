import {
  type AnchoredHead,
  type AuditHead,
  type AuditSink,
  type AuditTurn,
  hashLine,
  headBytes,
  ZERO_HASH,
} from './audit-line.ts';
import { OutriderError } from './errors.ts';
import { newId } from './ids.ts';
import { redactText } from './redact.ts';
import type { SigningKey } from './tokens.ts';

export { AUDIT_LEAST_BYTES, AUDIT_ROTATION, AuditFile, type AuditRotation } from './audit-file.ts';
export {
  type AnchoredHead,
  type AuditHead,
  type AuditSink,
  type AuditTurn,
  hashLine,
  readLine,
  ZERO_HASH,
} from './audit-line.ts';
export { type AuditFinding, type AuditVerification, verifyAudit } from './audit-verify.ts';

/** What an audit record may say. Every field has one meaning in every part; absent means unknown or not applicable. */
export interface AuditFields {
  /**
   * `start` and `end` of a writer; `request` out of a sandbox; `exec`; `call` of a tool, or what was refused at the gateway before it was read; `receipt` of another writer's
   * records; `checkpoint` of this chain; `anchor` with which a file begins; `owner` of a sandbox's records; `policy` loaded or refused.
   */
  readonly event:
    | 'start'
    | 'end'
    | 'request'
    | 'exec'
    | 'call'
    | 'receipt'
    | 'checkpoint'
    | 'anchor'
    | 'owner'
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
  /** Of `owner`: who delivers the records of that sandbox, as a SHA-256. */
  readonly owner?: string | undefined;
  readonly execId?: string | undefined;
  /** On whose behalf the caller says that it runs, e.g. the name of a tool. */
  readonly purpose?: string | undefined;
  /** `forward`, `connect`, `alias`, `socks5`, `grpc`, `mcp`. */
  readonly ingress?: string | undefined;
  readonly method?: string | undefined;
  /** What the request was spoken in, where that is not HTTP/1.1: `http2`, `grpc`, `websocket`. */
  readonly protocol?: string | undefined;
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
  /** Of `anchor`: the number of the file that begins with it, and how many of the series are kept. */
  readonly file?: number | undefined;
  readonly keeps?: number | undefined;
  /** Of `anchor`: where each chain stood that may go on behind it. */
  readonly heads?: readonly AnchoredHead[] | undefined;
}

/**
 * Fields that many records have in common, made into text once: a record then costs only what is its own. No field of a record may be
 * among its labels, too.
 */
export class AuditLabels {
  /** Members of a JSON object, each with its comma. */
  readonly text: string;

  constructor(fields: Omit<AuditFields, 'event' | 'signature'>) {
    this.text = redactText(members(fields));
  }
}

/** The members of an object as JSON writes them, each with its comma. */
function members(fields: object): string {
  const text = JSON.stringify(fields);
  return text === '{}' ? '' : `${text.slice(1, -1)},`;
}

/**
 * A chain of audit records: numbered from 0, each naming the hash of the one before, so that a changed byte, a gap and
 * (against a checkpoint, a receipt or a published head) a cut tail are found. One chain per process or attachment; the writer of
 * an attachment's chain is `sc-<sandboxId>`, so that the proxy can tell whose it is.
 */
export class AuditChain {
  readonly writer: string;
  /** How every line begins, up to its number. */
  readonly #opening: string;
  readonly #sink: AuditSink;
  readonly #now: () => number;
  readonly #signer: ((head: AuditHead) => Promise<string>) | undefined;
  #clock = { second: Number.NaN, text: '' };
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
    this.#sink = sink;
    this.#now = options.now ?? Date.now;
    this.writer = options.writer ?? newId('w');
    this.#opening = `{"v":1,${redactText(members({ part, writer: this.writer }))}"seq":`;
    this.#signer = options.signingKey === undefined ? undefined : headSigner(options.signingKey);
    if (options.silent !== true) this.#start();
  }

  /** The last record written; its number is -1 while there is none. */
  get head(): AuditHead {
    return { writer: this.writer, seq: this.#seq - 1, hash: this.#prev };
  }

  /** Writes one record. @throws {OutriderError} AUDIT_UNAVAILABLE: what was to be recorded must then not happen */
  append(fields: AuditFields, labels?: AuditLabels): void {
    if (!this.#started) this.#start();
    this.#append(fields, labels);
  }

  #start(): void {
    this.#append({ event: 'start', previous: this.#sink.previous });
    this.#started = true;
  }

  /** Makes room for a line of another chain in the same sink: where it begins another file, that begins with an anchor of this chain. */
  makeRoom(bytes: number): void {
    const turn = this.#sink.turn?.(bytes);
    if (turn) this.#anchor(turn);
  }

  /** Writes where every chain in the sink stands, so that a reader need not go back further. */
  anchor(): void {
    this.#anchor({});
  }

  #anchor(turn: Partial<AuditTurn>): void {
    const others = this.#sink.heads?.() ?? [];
    const own = this.#seq > 0 ? this.head : this.#sink.previous;
    // What the sink held before may be of one of the others, which has come further since.
    const news = own && others.every(({ writer }) => writer !== own.writer);
    const heads = news ? [...others, own] : others;
    this.#put(this.#lineOf(members({ event: 'anchor', ...turn, heads })));
  }

  #append(fields: AuditFields, labels?: AuditLabels): void {
    // A token put there by mistake would be redacted; what nobody but `checkpoint` writes is left out altogether.
    const own = fields.signature === undefined ? fields : { ...fields, signature: undefined };
    const text = `${labels?.text ?? ''}${redactText(members(own))}`;
    this.#write(() => this.#lineOf(text));
  }

  #lineOf(text: string): string {
    return `${this.#opening}${this.#seq},"time":"${this.#time()}",${text}"prev":"${this.#prev}"}`;
  }

  /** Now. Records of one second share its text. */
  #time(): string {
    const ms = this.#now();
    const second = Math.floor(ms / 1_000);
    if (second !== this.#clock.second)
      this.#clock = { second, text: new Date(second * 1_000).toISOString().slice(0, -4) };
    return `${this.#clock.text}${String(Math.floor(ms) - second * 1_000).padStart(3, '0')}Z`;
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
    const text = members({ event: 'checkpoint', head, signature });
    this.#write(() => this.#lineOf(text));
    this.#checkpointed = more ? head.seq : this.#seq - 1;
    this.#sink.flush?.();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.append({ event: 'end' });
    await this.checkpoint();
    this.#sink.close?.();
  }

  /** `make` is asked again where an anchor came before the line. */
  #write(make: () => string): void {
    const line = make();
    try {
      const turn = this.#sink.turn?.(Buffer.byteLength(line) + 1);
      if (turn) this.#anchor(turn);
      this.#put(turn ? make() : line);
    } catch (error) {
      throw error instanceof OutriderError
        ? error
        : new OutriderError('AUDIT_UNAVAILABLE', 'the audit cannot be written', { cause: error });
    }
  }

  #put(line: string): void {
    this.#sink.append(line);
    this.#prev = hashLine(line);
    this.#seq += 1;
  }
}

function headSigner(key: SigningKey): (head: AuditHead) => Promise<string> {
  // Most chains are signed by nobody: a sidecar's stand in the proxy's.
  const loaded = import('jose');
  const imported = loaded.then(({ importJWK }) => importJWK(key.jwk, 'EdDSA'));
  imported.catch(() => {}); // whoever signs hears of it
  return async (head) => {
    const { CompactSign } = await loaded;
    return new CompactSign(headBytes(head))
      .setProtectedHeader({
        alg: 'EdDSA',
        typ: 'outrider-audit-head',
        ...(key.jwk.kid === undefined ? {} : { kid: key.jwk.kid }),
      })
      .sign(await imported);
  };
}
