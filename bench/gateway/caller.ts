import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** One that takes longer hangs. */
const ANSWERS_WITHIN_MS = 10_000;
const ANSWER_MAX_BYTES = 65_536;

/**
 * One connection that sends a request, reads its answer, and sends the next. As little as a client can do, because it shares two cores
 * with what is measured: the head of a request is made once, what arrives is read into one block, and of an answer only its status, its end
 * and whether it is a result are looked at.
 */
export class Caller {
  readonly #socket: Socket;
  readonly #head: string;
  #answer = '';
  #next: () => string | undefined = () => undefined;
  #done: (() => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  private constructor(port: number, headers: Readonly<Record<string, string>>) {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#head = `POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${lines.join('')}`;
    const buffer = Buffer.allocUnsafe(ANSWER_MAX_BYTES);
    const callback = (length: number): boolean => {
      this.#take(buffer.toString('latin1', 0, length));
      return true;
    };
    this.#socket = connect({
      port,
      host: '127.0.0.1',
      noDelay: true,
      onread: { buffer, callback },
    });
    const socket = this.#socket;
    socket.setTimeout(ANSWERS_WITHIN_MS, () => socket.destroy(new Error('no answer in time')));
    socket.on('error', (error) => this.#failed?.(error));
    socket.on('close', () => this.#failed?.(new Error('the connection was closed')));
  }

  static async to(port: number, headers: Readonly<Record<string, string>>): Promise<Caller> {
    const caller = new Caller(port, headers);
    await once(caller.#socket, 'connect');
    return caller;
  }

  /**
   * Sends what `next` gives, in ASCII, one after the other until it gives none.
   * @throws {Error} where an answer is not 200 with a result
   */
  async post(next: () => string | undefined): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#next = next;
      this.#done = resolve;
      this.#failed = reject;
      this.#send();
    });
    this.#failed = undefined;
  }

  close(): void {
    this.#socket.destroy();
  }

  #send(): void {
    const body = this.#next();
    if (body === undefined) this.#done?.();
    else this.#socket.write(`${this.#head}content-length: ${body.length}\r\n\r\n${body}`, 'latin1');
  }

  #take(text: string): void {
    this.#answer += text;
    if (!isWhole(this.#answer)) return;
    const answer = this.#answer;
    this.#answer = '';
    if (answer.startsWith('HTTP/1.1 200') && answer.includes('"result"')) this.#send();
    else this.#failed?.(new Error(`a request was answered ${answer.slice(0, 300)}`));
  }
}

/** Whether a response is complete (RFC 9112 section 6.3): by its length, or by its last chunk. */
function isWhole(answer: string): boolean {
  const end = answer.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const length = /\r\ncontent-length: *(\d+)/i.exec(answer)?.[1];
  return length === undefined
    ? answer.endsWith('\r\n0\r\n\r\n')
    : answer.length >= end + 4 + Number(length);
}
