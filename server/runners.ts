import { type Address, formatAddress } from '#core/address';
import { OutriderError, toOutriderError } from '#core/errors';
import type { Logger } from '#core/log';
import type { Datasource, RunRequest, RunResponse, Sandbox } from '#proto';
import { assertSomeRunner } from './config-check.ts';
import { rendezvous } from './rendezvous.ts';
import {
  connectRunner,
  type RunContext,
  type Runner,
  type RunnerClient,
  UNREADY,
} from './runner-client.ts';

const ASK_EVERY_MS = 2_000;
const ANSWER_WITHIN_MS = 1_500;
/** After so long without an answer a runner's sessions count as lost, and their names belong to others. */
const LOST_AFTER_MS = 10_000;
/** What keeps one runner from running a program that was not begun, and not another. */
const ELSEWHERE: ReadonlySet<string> = new Set(['RUNNER_BUSY', 'DRAINING', 'UPSTREAM_UNREACHABLE']);

export interface RunnersOptions {
  readonly connect?: (address: Address) => RunnerClient;
  readonly now?: () => number;
  readonly askEveryMs?: number;
}

/** One runner, or several with the load spread over them. */
export function connectRunners(
  addresses: readonly Address[],
  log: Logger,
  options: RunnersOptions = {},
): Runner {
  assertSomeRunner(addresses);
  const [first] = addresses;
  if (addresses.length === 1) return (options.connect ?? connectRunner)(first);
  return new Runners(addresses, log, options);
}

interface Member {
  readonly address: string;
  readonly client: RunnerClient;
  /** Empty until it has answered for the first time. */
  runnerId: string;
  /** Programs that it runs for others than this server, when it last answered. */
  others: number;
  capacity: number;
  draining: boolean;
  /** Something is missing there that programs need. It may still run them: they are told what is missing. */
  unready: boolean;
  /** Since when it does not answer. */
  silentSince: number | undefined;
  /** Programs that it runs for this server. */
  running: number;
}

/**
 * Spreads programs over runners. A fresh one goes to where the smallest share of the places is taken, and to the next where that
 * one has no place after all. A session's goes to the one runner that its owner and name belong to by rendezvous hashing, as
 * does one with an idempotency key: when that runner is lost or stopping, the names move and their sessions begin anew. Each owner belongs
 * to one runner, too: what another runs of theirs takes a place there, so that a role's limit holds over all of them.
 */
export class Runners implements Runner {
  readonly #members: readonly Member[];
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout;
  #asked: Promise<unknown>;

  constructor(addresses: readonly Address[], log: Logger, options: RunnersOptions) {
    const { connect = connectRunner, now = Date.now, askEveryMs = ASK_EVERY_MS } = options;
    this.#log = log;
    this.#now = now;
    this.#members = addresses.map((address) => ({
      address: formatAddress(address),
      client: connect(address),
      runnerId: '',
      others: 0,
      capacity: 1,
      draining: false,
      unready: false,
      silentSince: now(),
      running: 0,
    }));
    this.#asked = this.#ask();
    this.#timer = setInterval(() => {
      this.#asked = this.#ask();
    }, askEveryMs).unref();
  }

  async run(request: RunRequest, context: RunContext): Promise<RunResponse> {
    if (this.#members.every(({ runnerId }) => runnerId === '')) await this.#asked;
    const key = keyOf(request);
    if (key === undefined) return this.#spread(request, context);
    const [member] = this.#byRendezvous(`${context.owner}\0${key}`, (one) => !this.#isLost(one));
    if (!member) throw unreachable();
    return this.#runOn(member, request, context);
  }

  /** Of every runner that answers: names may have moved while one did not. */
  async sessions(context: RunContext): Promise<Sandbox[]> {
    return (await this.#everywhere((client) => client.sessions(context))).flat();
  }

  async endSession(name: string, context: RunContext): Promise<void> {
    await this.#everywhere((client) => client.endSession(name, context));
  }

  async cancel(cancelKey: string, context: RunContext): Promise<void> {
    await this.#everywhere((client) => client.cancel(cancelKey, context));
  }

  /** Of whichever runner ran it. */
  async readArtefact(execId: string, path: string, context: RunContext): Promise<Buffer> {
    await this.#asked;
    const able = this.#members.filter(({ silentSince }) => silentSince === undefined);
    let unknown: OutriderError | undefined;
    for (const { client } of able) {
      try {
        return await client.readArtefact(execId, path, context);
      } catch (thrown) {
        const error = toOutriderError(thrown);
        if (error.code === 'EXEC_NOT_FOUND') unknown = error;
        else if (!ELSEWHERE.has(error.code)) throw error;
      }
    }
    // One that does not answer may be the one that has it.
    throw unknown && able.length === this.#members.length ? unknown : unreachable();
  }

  /** Of one runner that answers: all read the same policies. */
  async *watchDatasources(
    context: Omit<RunContext, 'deadlineMs'>,
  ): AsyncGenerator<readonly Datasource[], void, undefined> {
    await this.#asked;
    const [member] = this.#byRendezvous(context.owner, usable);
    if (!member) throw unreachable();
    yield* member.client.watchDatasources(context);
  }

  /** @throws {OutriderError} where no runner answers, or one that was thought to does not */
  async #everywhere<T>(ask: (client: RunnerClient) => Promise<T>): Promise<T[]> {
    await this.#asked;
    const able = this.#members.filter(({ silentSince }) => silentSince === undefined);
    if (able.length === 0) throw unreachable();
    return Promise.all(able.map(({ client }) => ask(client)));
  }

  async problem(): Promise<string | undefined> {
    await this.#asked;
    const answering = this.#members.filter(({ silentSince }) => silentSince === undefined);
    if (answering.length === 0) return 'no runner answers';
    return answering.every(({ unready }) => unready) ? UNREADY : undefined;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const { client } of this.#members) client.close();
  }

  /** Tries one after another, as long as it is certain that nothing was begun. */
  async #spread(request: RunRequest, context: RunContext): Promise<RunResponse> {
    let problem = unreachable();
    for (const member of this.#byLoad(context.owner)) {
      try {
        return await this.#runOn(member, request, context);
      } catch (thrown) {
        problem = toOutriderError(thrown);
        if (!ELSEWHERE.has(problem.code)) throw problem;
      }
    }
    throw problem;
  }

  async #runOn(member: Member, request: RunRequest, context: RunContext): Promise<RunResponse> {
    member.running += 1;
    let release = (): void => {};
    try {
      release = await this.#hold(member, request.spec?.role ?? '', context);
      return await member.client.run(request, context);
    } catch (thrown) {
      this.#learn(member, toOutriderError(thrown));
      throw thrown;
    } finally {
      release();
      member.running -= 1;
    }
  }

  /** A place at the runner that counts the owner's execs, where that is another than the one that runs it. */
  async #hold(runs: Member, role: string, context: RunContext): Promise<() => void> {
    for (const home of this.#byRendezvous(context.owner, usable)) {
      if (home === runs) break; // it counts by itself
      try {
        return await home.client.hold(role, context);
      } catch (thrown) {
        const error = toOutriderError(thrown);
        if (!ELSEWHERE.has(error.code)) throw error;
        this.#learn(home, error);
      }
    }
    return () => {};
  }

  /** Those that can take something, the least loaded first; among equals the owner's own. */
  #byLoad(owner: string): Member[] {
    const able = this.#byRendezvous(owner, usable);
    // Where all are silent a call is better than a guess.
    const tried = able.length > 0 ? able : this.#byRendezvous(owner, ({ draining }) => !draining);
    return tried.toSorted((a, b) => loadOf(a) - loadOf(b));
  }

  #byRendezvous(key: string, may: (member: Member) => boolean): Member[] {
    const ids = this.#members.map(({ runnerId }) => runnerId);
    // Runners that call themselves the same are told apart by their addresses.
    const idOf = ({ runnerId, address }: Member) =>
      ids.filter((id) => id === runnerId).length > 1 ? address : runnerId;
    const able = this.#members.filter((member) => member.runnerId !== '' && may(member));
    return rendezvous(key, able.map(idOf)).flatMap(
      (id) => able.find((member) => idOf(member) === id) ?? [],
    );
  }

  #isLost({ draining, silentSince }: Member): boolean {
    return draining || (silentSince !== undefined && this.#now() - silentSince >= LOST_AFTER_MS);
  }

  async #ask(): Promise<void> {
    await Promise.all(
      this.#members.map(async (member) => {
        try {
          const state = await member.client.state(ANSWER_WITHIN_MS);
          if (member.silentSince !== undefined)
            this.#log.info('a runner answers', { address: member.address });
          member.silentSince = undefined;
          member.runnerId = state.runnerId;
          member.capacity = Math.max(1, state.capacity);
          member.draining = state.draining;
          member.unready = state.unready;
          member.others = Math.max(0, state.running - member.running);
        } catch (error) {
          this.#learn(member, toOutriderError(error), true);
        }
      }),
    );
  }

  /** What a failed call tells of the runner; asked for its state, every failure is silence. */
  #learn(member: Member, error: OutriderError, asked = false): void {
    if (error.code === 'DRAINING') member.draining = true;
    if (error.code === 'RUNNER_BUSY') member.others = member.capacity; // until it says otherwise
    if (!asked && error.code !== 'UPSTREAM_UNREACHABLE') return;
    if (member.silentSince !== undefined) return;
    member.silentSince = this.#now();
    this.#log.warn('a runner does not answer', { address: member.address });
  }
}

function usable({ draining, silentSince }: Member): boolean {
  return !draining && silentSince === undefined;
}

function loadOf({ running, others, capacity }: Member): number {
  return (running + others) / capacity;
}

/** What must come to the same runner every time; undefined where any will do. */
function keyOf({ spec }: RunRequest): string | undefined {
  if (spec?.target?.$case === 'session') return `session\0${spec.target.value.name}`;
  if (spec?.idempotencyKey) return `key\0${spec.idempotencyKey}`;
  return undefined;
}

function unreachable(): OutriderError {
  return new OutriderError('UPSTREAM_UNREACHABLE', 'no runner can be reached', {
    retryAfterMs: ASK_EVERY_MS,
  });
}
