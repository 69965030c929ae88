import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Execution } from '#sdk';
import type { RunningMesh } from '../support/mesh.ts';
import type { Reply, Step } from './steps.ts';

/** What runs sender.py: lines go in by `write`, and come out as they are. */
export interface Sender {
  readonly write: (line: string) => void;
  readonly end: () => void;
  /** Tells of each line; resolves to why there are no more. */
  readonly listen: (onLine: (line: string) => void) => Promise<string>;
}

/** The text of the program. */
export function senderText(): string {
  return readFileSync(join(import.meta.dirname, 'sender.py'), 'utf8');
}

/** It in a sandbox of the role. */
export function inSandbox(mesh: RunningMesh, role: string): Sender {
  const execution: Execution = mesh.sdk.start(senderText(), { role, timeoutMs: 3_600_000 });
  return {
    write: (line) => execution.write(line),
    end: () => execution.closeStdin(),
    async listen(onLine) {
      let rest = '';
      let complaints = '';
      for await (const event of execution.events) {
        if (event.stream === 'end') return `${event.end.killedBy}: ${complaints}`;
        if (event.stream === 'stderr') complaints += event.data.toString();
        else rest += event.data.toString();
        const lines = rest.split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) onLine(line);
      }
      return complaints;
    },
  };
}

/** One program, which does what it is told, one thing after the other. */
export class Program {
  readonly #sender: Sender;
  readonly #waiting = new Map<number, Waiting<Reply>>();
  readonly ready: Promise<void>;
  #orders = 0;
  #gone: Error | undefined;

  constructor(sender: Sender) {
    this.#sender = sender;
    const ready = waiting<void>();
    this.ready = ready.promise;
    const over = (why: string): void => {
      this.#gone = new Error(`the program ended: ${why}`);
      ready.reject(this.#gone);
      for (const { reject } of this.#waiting.values()) reject(this.#gone);
    };
    sender
      .listen((line) => {
        const said: Reply & { readonly ready?: boolean } = JSON.parse(line);
        if (said.ready) ready.resolve();
        this.#waiting.get(said.id)?.resolve(said);
        this.#waiting.delete(said.id);
      })
      .then(over, (error: unknown) => over(String(error)));
  }

  /** @throws {Error} where the program has ended, or does meanwhile */
  async order(steps: readonly Step[], timeoutMs = 15_000): Promise<Reply> {
    if (this.#gone) throw this.#gone;
    const id = (this.#orders += 1);
    const answered = waiting<Reply>();
    this.#waiting.set(id, answered);
    this.#sender.write(`${JSON.stringify({ id, steps, timeoutMs })}\n`);
    return answered.promise;
  }

  /** A request that must work whatever was sent before it. Resolves to the milliseconds until its answer began. */
  async mark(path: string): Promise<number> {
    const send = Buffer.from(
      `GET http://marker.battery.test/${path} HTTP/1.1\r\nHost: marker.battery.test\r\n\r\n`,
    );
    for (let tries = 1; ; tries++) {
      const reply = await this.order([
        { connect: 'relay' },
        { send: send.toString('base64') },
        { read: { want: 1, last: true } },
      ]);
      const said = Buffer.from(reply.data, 'base64').toString('latin1');
      if (said.startsWith('HTTP/1.1 200 ')) return reply.firstMs ?? reply.ms;
      // Its name is told by the process of the test, which a busy machine may hold up.
      if (tries === MARKED_MAX || !said.includes('"reason":"dns_timeout"'))
        throw new Error(`a good request no longer works: ${JSON.stringify(reply)}`);
    }
  }

  end(): void {
    this.#sender.end();
  }
}

const MARKED_MAX = 3;

interface Waiting<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

function waiting<T>(): Waiting<T> {
  let [resolve, reject]: [Waiting<T>['resolve'], Waiting<T>['reject']] = [() => {}, () => {}];
  const promise = new Promise<T>((good, bad) => {
    [resolve, reject] = [good, bad];
  });
  promise.catch(() => {}); // nobody may be waiting yet
  return { promise, resolve, reject };
}
