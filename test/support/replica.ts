import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { packageRoot } from '#core/package-root';

const STARTS_WITHIN_MS = 120_000;
const ADDRESS = /"address":"([^"]+):(\d+)"/;

/** How a process of ours is started; `port` is 0 for the first life and stays for those that follow. */
export interface ReplicaOptions {
  readonly argv: (port: number) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Default two minutes. */
  readonly startsWithinMs?: number;
}

/**
 * A process that says in JSON where it listens, as every part does. It can be killed, stopped in its tracks and started again at
 * the same address, as a supervisor would.
 */
export class Replica {
  readonly #options: ReplicaOptions;
  #child: ChildProcess | undefined;
  #said = '';
  #port = 0;

  constructor(options: ReplicaOptions) {
    this.#options = options;
  }

  /** Of the address that it had last. */
  get port(): number {
    return this.#port;
  }

  get pid(): number {
    const pid = this.runs ? this.#child?.pid : undefined;
    if (pid === undefined) throw new Error('it does not run');
    return pid;
  }

  get runs(): boolean {
    const child = this.#child;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** Of the last life; null where a signal ended it, or it runs. */
  get exitCode(): number | null {
    return this.#child?.exitCode ?? null;
  }

  /** What it wrote, to stdout and stderr, in all its lives. */
  get said(): string {
    return this.#said;
  }

  /** Resolves when it listens. @throws {Error} with what it said, where it ends before or takes longer than it may */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [...this.#options.argv(this.#port)], {
      cwd: packageRoot,
      env: { PATH: process.env['PATH'], ...this.#options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    let life = '';
    await new Promise<void>((resolve, reject) => {
      const fail = (how: string) => reject(new Error(`a process ${how}:\n${life}`));
      const { startsWithinMs = STARTS_WITHIN_MS } = this.#options;
      const timer = setTimeout(() => fail('did not start in time'), startsWithinMs);
      child.once('close', () => {
        clearTimeout(timer);
        fail('ended');
      });
      const hear = (chunk: Buffer): void => {
        life += chunk.toString();
        this.#said += chunk.toString();
        const port = ADDRESS.exec(life)?.[2];
        if (port === undefined) return;
        this.#port = Number(port);
        clearTimeout(timer);
        resolve();
      };
      child.stdout.on('data', hear);
      child.stderr.on('data', hear);
    });
  }

  /** Sends a signal and, for one that ends it, resolves to its exit code when it has ended; null where the signal ended it. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    if (!child || !this.runs) return child?.exitCode ?? null;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
    return child.exitCode;
  }

  /** Sends a signal that it outlives: SIGSTOP, SIGCONT, SIGHUP. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }
}
