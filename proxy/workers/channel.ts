/** What one end of a channel answers: by name, a function of plain data to plain data. */
export type Door<D> = {
  readonly [Name in keyof D]: D[Name] extends (value: infer V) => infer R ? (value: V) => R : never;
};
type Said<D, Name extends keyof D> = D[Name] extends (value: infer V) => unknown ? V : never;
type Answered<D, Name extends keyof D> = D[Name] extends (value: never) => infer R
  ? Awaited<R>
  : never;

/** Carries messages to the other process. */
export interface Wire {
  /** Never throws; what cannot be sent is lost with the process that it was for. */
  readonly send: (messages: readonly object[]) => void;
  readonly onMessages: (take: (messages: unknown) => void) => void;
}

type Message =
  /** `id` 0: no answer is wanted. */
  | { readonly id: number; readonly name: string; readonly value: unknown }
  | { readonly to: number; readonly value: unknown }
  | { readonly to: number; readonly failed: string };

/**
 * One end of a conversation between a worker and its primary, which are the same program: each asks what the other's door answers. What
 * one turn of the event loop says goes in one piece.
 */
export class Channel<Own extends Door<Own>, Other extends Door<Other>> {
  readonly #wire: Wire;
  readonly #door: Own;
  readonly #waiting = new Map<
    number,
    { readonly resolve: (value: never) => void; readonly reject: (error: Error) => void }
  >();
  #outgoing: Message[] = [];
  #nextId = 1;
  #closed = false;

  constructor(wire: Wire, door: Own) {
    this.#wire = wire;
    this.#door = door;
    wire.onMessages((messages) => {
      if (Array.isArray(messages)) for (const one of messages) this.#take(one);
    });
  }

  /** Rejects where the other end cannot answer, or is gone. */
  ask<Name extends keyof Other & string>(
    name: Name,
    value: Said<Other, Name>,
  ): Promise<Answered<Other, Name>> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(gone());
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      this.#say({ id, name, value });
    });
  }

  /** The same without an answer. */
  tell<Name extends keyof Other & string>(name: Name, value: Said<Other, Name>): void {
    this.#say({ id: 0, name, value });
  }

  /** To be called when the other process is gone: nobody waits for it any longer. */
  close(): void {
    this.#closed = true;
    for (const { reject } of this.#waiting.values()) reject(gone());
    this.#waiting.clear();
  }

  #say(message: Message): void {
    this.#outgoing.push(message);
    if (this.#outgoing.length > 1) return;
    setImmediate(() => {
      const outgoing = this.#outgoing;
      this.#outgoing = [];
      if (!this.#closed) this.#wire.send(outgoing);
    });
  }

  #take(message: Message): void {
    if ('name' in message) return this.#answer(message);
    const waiting = this.#waiting.get(message.to);
    this.#waiting.delete(message.to);
    if ('failed' in message) waiting?.reject(new Error(message.failed));
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the other end is this very program: what it answers is what its door says
    else waiting?.resolve(message.value as never);
  }

  #answer({ id, name, value }: Extract<Message, { name: string }>): void {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above: only names and values of this door are sent
    const asked = this.#door[name as keyof Own] as (value: unknown) => unknown;
    const answer = (result: unknown): void => this.#say({ to: id, value: result });
    const fail = (error: unknown): void =>
      this.#say({ to: id, failed: error instanceof Error ? error.message : String(error) });
    if (id === 0) return void asked(value);
    try {
      const result = asked(value);
      if (result instanceof Promise) result.then(answer, fail);
      else answer(result);
    } catch (error) {
      fail(error);
    }
  }
}

function gone(): Error {
  return new Error('the other process is gone');
}
