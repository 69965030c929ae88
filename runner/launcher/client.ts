import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { OutriderError } from '#core/errors';
import type { PolicyFiles } from '#policystore';
import {
  type Attestation,
  type Backend,
  type Box,
  type BoxAsk,
  type BoxCounters,
  TIER_OF,
} from '../backends/backend.ts';
import { linesOf } from './lines.ts';
import { launcherFiles } from './policy-files.ts';
import {
  type Answer,
  type Ask,
  type Described,
  type Ended,
  errorOf,
  type Placed,
  type Probed,
  type Started,
} from './protocol.ts';

/** Python is compiled and old sandboxes are swept before it is ready. */
const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 20_000;

/** Where sandboxes get their directories and boxes from; the runner itself makes neither (D13). */
export interface BoxSource {
  readonly backends: readonly Backend<BoxAsk>[];
  /** Takes a user for a sandbox and makes the directory for its sockets. @throws {OutriderError} QUOTA_EXCEEDED, SANDBOX_FAILED */
  place(sandboxId: string): Promise<string>;
  /** Ends what is left of the sandbox, and removes its directory. @throws {OutriderError} SANDBOX_FAILED where the launcher is gone */
  forget(sandboxId: string): Promise<void>;
}

interface Waiting {
  readonly resolve: (ok: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The runner's end of its launcher: a process with the power that the runner does not have. */
export class LauncherClient implements BoxSource {
  readonly #child: ChildProcess;
  readonly #input: Writable;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ends = new Map<string, (end?: Ended) => void>();
  #next = 1;
  #alive = true;
  #stopping = false;
  readonly backends: readonly Backend<BoxAsk>[];
  readonly policies: PolicyFiles;
  /** Resolves when the launcher ends after `stop`; rejects with SANDBOX_FAILED when it ends before. */
  readonly over: Promise<void>;

  private constructor(
    child: ChildProcess,
    input: Writable,
    backends: readonly Described[],
    answers: AsyncGenerator<Answer>,
  ) {
    this.#child = child;
    this.#input = input;
    this.backends = backends.map((described) => this.#backend(described));
    this.policies = launcherFiles((verb) => this.#ask(verb));
    this.over = this.#read(answers);
    this.over.catch(() => {}); // whoever cares awaits it
  }

  /** Starts `command` (argv of `outrider launcher` with the runner's own options). @throws {OutriderError} what keeps it from running */
  static async start(command: readonly string[], env: NodeJS.ProcessEnv): Promise<LauncherClient> {
    const [program = '', ...words] = command;
    const child = spawn(program, words, {
      env,
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true, // a terminal's Ctrl-C is for the runner, which stops it in order
    });
    const { stdin, stdout } = child;
    child.on('error', () => {}); // also of a signal that the runner's user may not send any more
    stdin.on('error', () => {}); // its end is seen on the other pipe
    const gone = new Promise<never>((_, reject) => {
      child.once('error', (cause) => reject(failed('the launcher cannot be started', cause)));
    });
    gone.catch(() => {});
    const answers = answersOf(stdout);
    try {
      const first = await Promise.race([answers.next(), gone, late()]);
      if (first.done === true) throw failed('the launcher ended at once');
      if ('error' in first.value) throw errorOf(first.value.error);
      if (!('event' in first.value) || first.value.event !== 'ready')
        throw failed('the launcher does not speak as it should');
      return new LauncherClient(child, stdin, first.value.backends, answers);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  async place(sandboxId: string): Promise<string> {
    const { directory } = await this.#ask<Placed>({ verb: 'place', sandboxId });
    return directory;
  }

  async forget(sandboxId: string): Promise<void> {
    await this.#ask({ verb: 'forget', sandboxId });
  }

  /** Ends it in order: everything that it made is ended and removed. One that hangs is left behind after 20 s. Never rejects. */
  stop(): Promise<void> {
    this.#stopping = true;
    this.#input.end();
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        child.unref(); // a runner that has given up root may not kill it: it ends when it sees that its input has ended
        for (const pipe of [child.stdin, child.stdout]) pipe?.destroy();
        resolve();
      }, STOP_TIMEOUT_MS);
      child.once('exit', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #backend({ name, images, limitsAddressSpace }: Described): Backend<BoxAsk> {
    return {
      name,
      tier: TIER_OF[name],
      images,
      limitsAddressSpace,
      probe: async () => {
        try {
          return (await this.#ask<Probed>({ verb: 'probe', backend: name })).problem ?? undefined;
        } catch {
          return 'the launcher does not answer';
        }
      },
      start: async ({ sandboxId, limits, image }) => {
        const remote = new RemoteBox(sandboxId, (ask) => this.#ask(ask));
        this.#ends.set(sandboxId, remote.onEnded);
        try {
          const ask = { verb: 'start', backend: name, sandboxId, limits, image } as const;
          return remote.started(await this.#ask<Started>(ask));
        } catch (error) {
          this.#ends.delete(sandboxId);
          throw error;
        }
      },
    };
  }

  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the verb decides what is answered, and the launcher is our own code
  #ask<T>(ask: Ask): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!this.#alive) {
        reject(failed('the launcher is gone'));
        return;
      }
      const id = this.#next++;
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
      this.#waiting.set(id, { resolve: (ok) => resolve(ok as T), reject });
      this.#input.write(`${JSON.stringify({ id, ...ask })}\n`);
    });
  }

  async #read(answers: AsyncGenerator<Answer>): Promise<void> {
    try {
      for await (const answer of answers) this.#onAnswer(answer);
    } catch {
      // A line that is none of ours: the same as its end.
    }
    this.#alive = false;
    this.#child.kill('SIGKILL'); // as good as gone
    for (const { reject } of this.#waiting.values()) reject(failed('the launcher is gone'));
    this.#waiting.clear();
    for (const end of this.#ends.values()) end();
    this.#ends.clear();
    if (!this.#stopping) throw failed('the launcher ended: its sandboxes ended with it');
  }

  #onAnswer(answer: Answer): void {
    if ('event' in answer) {
      if (answer.event !== 'ended') return;
      this.#ends.get(answer.sandboxId)?.(answer);
      this.#ends.delete(answer.sandboxId);
      return;
    }
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('ok' in answer) waiting?.resolve(answer.ok);
    else waiting?.reject(errorOf(answer.error));
  }
}

/** A box as the runner has it. */
class RemoteBox {
  readonly #sandboxId: string;
  readonly #ask: (ask: Ask) => Promise<unknown>;
  readonly #ended: Promise<void>;
  #diagnostics = '';
  #over = false;
  #last: BoxCounters = { oomKills: 0, pidsRefused: 0 };
  /** To be called once. */
  onEnded: (end?: Ended) => void = () => {};

  constructor(sandboxId: string, ask: (ask: Ask) => Promise<unknown>) {
    this.#sandboxId = sandboxId;
    this.#ask = ask;
    this.#ended = new Promise((resolve) => {
      this.onEnded = (end) => {
        this.#diagnostics = end?.diagnostics ?? 'the launcher is gone';
        this.#last = end?.counters ?? this.#last;
        this.#over = true;
        resolve();
      };
    });
  }

  started({ attestation, rlimits }: { attestation: Attestation; rlimits: Box['rlimits'] }): Box {
    return {
      attestation,
      rlimits,
      ended: this.#ended,
      settle: () => {
        this.#ask({ verb: 'settle', sandboxId: this.#sandboxId }).catch(() => {}); // its end says more
      },
      kill: async () => {
        if (!this.#over)
          await this.#ask({ verb: 'kill', sandboxId: this.#sandboxId }).catch(() => {});
        return this.#ended;
      },
      counters: () => this.#counters(),
      diagnostics: () => this.#diagnostics,
    };
  }

  /** As they were at the end, once it is over. */
  async #counters(): Promise<BoxCounters> {
    if (this.#over) return this.#last;
    const answer = await this.#ask({ verb: 'counters', sandboxId: this.#sandboxId }).catch(
      () => this.#last,
    );
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the launcher is our own code, and this is what the verb answers
    this.#last = answer as BoxCounters;
    return this.#last;
  }
}

async function* answersOf(output: Readable): AsyncGenerator<Answer> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the launcher is our own code, started by us
  for await (const line of linesOf(output)) yield JSON.parse(line) as Answer;
}

function late(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(failed('the launcher did not become ready')), START_TIMEOUT_MS).unref();
  });
}

function failed(message: string, cause?: unknown): OutriderError {
  return new OutriderError('SANDBOX_FAILED', message, { cause });
}
