import { OutriderError } from '#core/errors';

const KEY_MAX_CHARACTERS = 128;

/** Running calls of Run and Exec by the key under which their caller, and nobody else, may cancel them. */
export class CancelKeys {
  readonly #running = new Map<string, Set<AbortController>>();

  /**
   * What a call is to heed from now on: the end of `over`, and a cancellation under `key`. Forgotten when `over` is aborted. An
   * empty key is none.
   * @throws {OutriderError} INVALID_REQUEST for one of more than 128 characters
   */
  enter(owner: string, key: string, over: AbortSignal): AbortSignal {
    if (key === '' || over.aborted) return over;
    if (key.length > KEY_MAX_CHARACTERS)
      throw new OutriderError(
        'INVALID_REQUEST',
        `cancel_key: at most ${KEY_MAX_CHARACTERS} characters`,
      );
    const name = nameOf(owner, key);
    const running = this.#running.get(name) ?? new Set();
    this.#running.set(name, running);
    const cancelled = new AbortController();
    running.add(cancelled);
    const leave = () => {
      running.delete(cancelled);
      if (running.size === 0 && this.#running.get(name) === running) this.#running.delete(name);
    };
    over.addEventListener('abort', leave, { once: true });
    return AbortSignal.any([over, cancelled.signal]);
  }

  /** Cancels what `owner` runs under `key`; where that is nothing, nothing changes. */
  cancel(owner: string, key: string): void {
    const reason = new OutriderError('CANCELLED', 'cancelled');
    for (const call of this.#running.get(nameOf(owner, key)) ?? []) call.abort(reason);
  }
}

/** No owner and key are written as another owner and key. */
function nameOf(owner: string, key: string): string {
  return JSON.stringify([owner, key]);
}
