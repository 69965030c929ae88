import type { Socket } from 'node:net';
import { afterTime } from '#core/http1/after-time';

/** So many more connections than there are places may be open, to wait for one or to be told that there is none. */
export const WAITING_MAX = 64;
const WAIT_MS = 250;

/**
 * The places of one sandbox's connections. What finds none waits a moment, first come first served: a program that has ended its connections
 * may open the next one before their ends are heard of here.
 */
export class ConnectionPlaces {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(places: number) {
    this.#free = places;
  }

  /** Calls `taken` once the socket has a place, which it has until it is closed; or `full` where it had none in time. */
  take(socket: Socket, taken: () => void, full: () => void): void {
    if (this.#free > 0) {
      this.#give(socket);
      taken();
      return;
    }
    const leave = (): void => {
      inTime();
      socket.off('close', leave);
      this.#waiting.delete(goIn);
    };
    const goIn = (): void => {
      leave();
      this.#give(socket);
      taken();
    };
    const inTime = afterTime(WAIT_MS, () => {
      leave();
      full();
    });
    socket.once('close', leave);
    this.#waiting.add(goIn);
  }

  #give(socket: Socket): void {
    this.#free -= 1;
    socket.once('close', () => {
      this.#free += 1;
      const [next] = this.#waiting;
      next?.();
    });
  }
}
