import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** One that takes longer hangs. */
const ANSWERS_WITHIN_MS = 10_000;

/**
 * One connection that sends a request, reads its answer, and sends the next. As little as a client can do, because it shares two cores
 * with what is measured: the head of a request is made once, and of an answer only its status and its end are looked at.
 */
export class Caller {
  readonly #socket: Socket;
  readonly #head: string;
  #answer = '';
  #answered: ((answer: string) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  private constructor(socket: Socket, head: string) {
    this.#socket = socket;
    this.#head = head;
    socket.setNoDelay(true).setEncoding('latin1');
    socket.setTimeout(ANSWERS_WITHIN_MS, () => socket.destroy(new Error('no answer in time')));
    socket.on('data', (text: string) => this.#take(text));
    socket.on('error', (error) => this.#failed?.(error));
    socket.on('close', () => this.#failed?.(new Error('the connection was closed')));
  }

  static async to(port: number, headers: Readonly<Record<string, string>>): Promise<Caller> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return new Caller(socket, `POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${lines.join('')}`);
  }

  /** `body` is ASCII. @throws {Error} where the answer is not 200 with a result */
  async post(body: string): Promise<void> {
    const answer = await new Promise<string>((resolve, reject) => {
      this.#answered = resolve;
      this.#failed = reject;
      this.#socket.write(`${this.#head}content-length: ${body.length}\r\n\r\n${body}`, 'latin1');
    });
    if (!answer.startsWith('HTTP/1.1 200') || !answer.includes('"result"'))
      throw new Error(`a request was answered ${answer.slice(0, 300)}`);
  }

  close(): void {
    this.#failed = undefined;
    this.#socket.destroy();
  }

  #take(text: string): void {
    this.#answer += text;
    if (!isWhole(this.#answer)) return;
    const whole = this.#answer;
    this.#answer = '';
    this.#answered?.(whole);
  }
}

/** Whether a response is complete (RFC 9112 section 6.3): by its length, or by its last chunk. */
function isWhole(answer: string): boolean {
  const end = answer.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const length = /\r\ncontent-length: *(\d+)/i.exec(answer.slice(0, end))?.[1];
  return length === undefined
    ? answer.endsWith('\r\n0\r\n\r\n')
    : answer.length >= end + 4 + Number(length);
}
