/** The head of an answer as a reader understood it: name, value, name, value; names in lower case, values without the space around them. */
export interface Head {
  readonly status: number;
  readonly headers: readonly string[];
}

/** How a reader understood the bytes of a connection as the answer to one request. Texts are Latin-1: one character is one byte. */
export interface Reading {
  /** The interim answers too. */
  readonly heads: readonly Head[];
  /** As much of the body as was told. */
  readonly body: string;
  /** Like headers; undefined where the reader tells nobody of them. */
  readonly trailers: readonly string[] | undefined;
  /** The answer is there; more must come; or this is no answer. */
  readonly state: 'whole' | 'waiting' | 'refused';
}

/** One reader of answers. */
export interface Reader {
  readonly name: string;
  /** Reads `text` as the answer to a request of this method, on a connection that is still open or has `ended`. */
  readonly read: (method: string, text: string, ended: boolean) => Promise<Reading>;
  readonly stop: () => void;
}

/** Puts together what a reader tells, one thing after the other. */
export class ReadingInProgress {
  readonly #heads: Head[] = [];
  readonly #body: string[] = [];
  #trailers: readonly string[] | undefined;
  #state: Reading['state'] = 'waiting';

  head(status: number, flat: readonly (string | Buffer)[]): void {
    this.#heads.push({ status, headers: fieldsOf(flat) });
  }

  data(chunk: Buffer): void {
    this.#body.push(chunk.toString('latin1'));
  }

  end(trailers: readonly (string | Buffer)[] | undefined): void {
    if (this.#state !== 'waiting') return;
    this.#trailers = trailers && fieldsOf(trailers);
    this.#state = 'whole';
  }

  refuse(): void {
    if (this.#state === 'waiting') this.#state = 'refused';
  }

  get isOver(): boolean {
    return this.#state !== 'waiting';
  }

  reading(): Reading {
    const [heads, body] = [[...this.#heads], this.#body.join('')];
    return { heads, body, trailers: this.#trailers, state: this.#state };
  }
}

function fieldsOf(flat: readonly (string | Buffer)[]): string[] {
  const texts = flat.map((text) => (typeof text === 'string' ? text : text.toString('latin1')));
  return texts.map((text, at) =>
    at % 2 === 0 ? text.toLowerCase() : text.replace(/^[ \t]+|[ \t]+$/g, ''),
  );
}
