import { Readable } from 'node:stream';
import Docker from 'dockerode';
import { OutriderError } from '#core/errors';
import { linesOf } from '../../launcher/lines.ts';
import { LABEL } from './arguments.ts';

const AGAIN_MS = 500;
/** How a container ended that the engine has forgotten. */
const UNKNOWN = -1;
/** For one answer; starting a container takes well under a second. */
const ANSWER_TIMEOUT_MS = 20_000;

/** The container engine at one socket, as far as boxes need it. It never pulls an image. */
export class Engine {
  readonly #docker: Docker;
  readonly owner: string;
  /** Containers that the kernel killed in for want of memory, as the engine told. */
  readonly #outOfMemory = new Map<string, number>();
  #events: Readable | undefined;
  #listening: Promise<void> | undefined;
  #closed = false;

  /** `owner` is the label by which this launcher's containers are known from others'. */
  constructor(socketPath: string, owner: string) {
    this.#docker = new Docker({ socketPath });
    this.owner = owner;
  }

  /** Makes and starts a container. @throws {OutriderError} BACKEND_UNAVAILABLE, SANDBOX_FAILED */
  async start(options: Docker.ContainerCreateOptions): Promise<Running> {
    await this.#listen();
    const container = await answered(this.#docker.createContainer(options));
    const gone = this.#untilGone(container);
    try {
      await answered(container.start());
      const { State, Image, HostConfig } = await answered(container.inspect());
      const forget = () => this.#outOfMemory.delete(container.id);
      void gone.then(() => setTimeout(forget, 60_000).unref());
      return {
        pid: State.Pid,
        image: Image,
        runtime: HostConfig.Runtime ?? '',
        gone,
        outOfMemory: () => this.#outOfMemory.get(container.id) ?? 0,
        kill: () => kill(container),
      };
    } catch (error) {
      await remove(container);
      throw error;
    }
  }

  /** Ends what an earlier launcher of the same owner left. */
  async sweep(): Promise<void> {
    const filters = { label: [`${LABEL.owner}=${this.owner}`] };
    const left = await answered(this.#docker.listContainers({ all: true, filters }));
    await Promise.all(left.map(({ Id }) => remove(this.#docker.getContainer(Id))));
  }

  close(): void {
    this.#closed = true;
    this.#events?.destroy();
  }

  /** Resolves when the engine has no such container any more. Never rejects: an engine that is away is asked again. */
  async #untilGone(container: Docker.Container): Promise<number> {
    for (;;) {
      try {
        const answer: { StatusCode?: number } = await container.wait({ condition: 'removed' });
        return answer.StatusCode ?? UNKNOWN;
      } catch (error) {
        if (statusOf(error) === 404) return UNKNOWN;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
      }
    }
  }

  /** Follows the engine's word of memory that ran out: a container's own counters are gone with it. */
  #listen(): Promise<void> {
    this.#listening ??= this.#follow().catch((error: unknown) => {
      this.#listening = undefined;
      throw error;
    });
    return this.#listening;
  }

  async #follow(): Promise<void> {
    const filters = { label: [`${LABEL.owner}=${this.owner}`], event: ['oom'] };
    const stream = await answered(this.#docker.getEvents({ filters }));
    if (!(stream instanceof Readable))
      throw new OutriderError('SANDBOX_FAILED', 'the engine tells no events');
    this.#events = stream;
    if (this.#closed) stream.destroy();
    void this.#hear(stream).finally(() => {
      this.#listening = undefined; // the next start listens anew
    });
  }

  async #hear(stream: Readable): Promise<void> {
    try {
      for await (const line of linesOf(stream)) {
        const id = /"id":"([0-9a-f]{64})"/.exec(line)?.[1];
        if (id) this.#outOfMemory.set(id, (this.#outOfMemory.get(id) ?? 0) + 1);
      }
    } catch {
      // The engine is away.
    }
  }
}

/** A started container. */
export interface Running {
  /** The host's id of its first process. */
  readonly pid: number;
  /** The digest of its image. */
  readonly image: string;
  readonly runtime: string;
  /** Resolves, to the exit status, when the engine has removed it. */
  readonly gone: Promise<number>;
  outOfMemory(): number;
  /** Ends every process of it at once. */
  kill(): Promise<void>;
}

async function kill(container: Docker.Container): Promise<void> {
  try {
    await container.kill({ signal: 'SIGKILL' });
  } catch (error) {
    if (statusOf(error) !== 404 && statusOf(error) !== 409) await remove(container); // it was not running, or is going
  }
}

async function remove(container: Docker.Container): Promise<void> {
  try {
    await container.remove({ force: true });
  } catch {
    // Gone, or being removed; otherwise the next start sweeps.
  }
}

/** What the engine answers, or what a person should do about its not answering. */
async function answered<T>(call: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), ANSWER_TIMEOUT_MS);
  });
  try {
    return await Promise.race([call, late]);
  } catch (error) {
    throw explained(error);
  } finally {
    clearTimeout(timer);
  }
}

function explained(cause: unknown): OutriderError {
  const text = cause instanceof Error ? cause.message : String(cause);
  const unavailable = (message: string) =>
    new OutriderError('BACKEND_UNAVAILABLE', message, { cause });
  if (/ENOENT|ECONNREFUSED|EACCES/.test(text))
    return unavailable('the container engine cannot be reached: start dockerd');
  if (statusOf(cause) === 404 && /no such image/i.test(text))
    return unavailable('the engine does not have the image: npm run image builds it');
  if (/runtime/i.test(text) && /unknown|invalid|not found/i.test(text))
    return unavailable('the engine does not know the runtime: deploy/docker/daemon.json shows how');
  return new OutriderError('SANDBOX_FAILED', 'the container could not be started', { cause });
}

function statusOf(error: unknown): number | undefined {
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number'
    ? error.statusCode
    : undefined;
}
