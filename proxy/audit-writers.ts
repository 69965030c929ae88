import type { AnchoredHead, AuditHead } from '#core/audit';

const WRITERS_MAX = 50_000;
/** Of the chains that have ended, so many may get a record that was delivered before, after a restart. */
const ENDED_HEADS = 1_000;

/**
 * How far each audit chain has come, so that a repeated delivery is known as one. Of more than 50 000 the one that ended longest ago
 * is forgotten, and while none has ended the one that wrote longest ago. A writer that was forgotten is taken for a new one: its chain
 * then begins in the middle, which its receipt says, and nothing of it is lost.
 */
export class AuditWriters {
  readonly #max: number;
  /** In the order of their last record. */
  readonly #running = new Map<string, AuditHead>();
  readonly #ended = new Map<string, AuditHead>();
  readonly #owners = new Map<string, string>();

  constructor(max = WRITERS_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#running.size + this.#ended.size;
  }

  get(writer: string): { readonly head: AuditHead; readonly ended: boolean } | undefined {
    const ended = this.#ended.get(writer);
    const head = ended ?? this.#running.get(writer);
    return head && { head, ended: ended !== undefined };
  }

  /** Where the chains stand, for an anchor: those that run, and of those that have ended the last 1 000. */
  get heads(): AnchoredHead[] {
    const ended = [...this.#ended.values()].slice(-ENDED_HEADS);
    const owned = (head: AuditHead): AnchoredHead => {
      const owner = this.#owners.get(head.writer);
      return owner === undefined ? head : { ...head, owner };
    };
    return [
      ...ended.map((head) => ({ ...owned(head), ended: true })),
      ...[...this.#running.values()].map(owned),
    ];
  }

  /** Who delivers the records of a writer; undefined where that is not known. */
  ownerOf(writer: string): string | undefined {
    return this.#owners.get(writer);
  }

  /** Notes who that is; known for as long as the writer is. */
  own(writer: string, owner: string): void {
    this.#owners.set(writer, owner);
  }

  /** Notes the last record of a chain. With `end` it has ended, and a checkpoint behind that changes nothing. */
  add(head: AuditHead, event: string): void {
    const ended = event === 'end' || (event === 'checkpoint' && this.#ended.has(head.writer));
    this.#running.delete(head.writer);
    this.#ended.delete(head.writer);
    (ended ? this.#ended : this.#running).set(head.writer, head);
    if (this.size <= this.#max) return;
    const from = this.#ended.size > 0 ? this.#ended : this.#running;
    const [oldest] = from.keys();
    if (oldest === undefined) return;
    from.delete(oldest);
    this.#owners.delete(oldest);
  }
}
