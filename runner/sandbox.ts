import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { newId } from '#core/ids';
import { AgentLink } from './agent-link.ts';
import type { Backend, Box, BoxAsk, BoxCounters } from './backends/backend.ts';
import type { BoxSource } from './launcher/client.ts';
import { waitingIn } from './profiles.ts';
import type { SandboxShape } from './role-limits.ts';
import { Attachment } from './sidecar-link.ts';
import type { SidecarSlot, SidecarSource } from './sidecar-processes.ts';

/** Only against hanging: a box that ends is noticed at once. */
const CONNECT_TIMEOUT_MS = 60_000;
/** In a sandbox's directory a socket belongs to the group of the sandbox's user, and nobody else may enter. */
const SOCKET_MODE = 0o660;

export interface SandboxDeps {
  readonly boxes: BoxSource;
  readonly sidecars: SidecarSource;
}

/**
 * One box with its agent and its sidecar attachment: born and dead together. The loss of any one ends all.
 * It is used for one exec, or for one session's execs one after another; never for two callers.
 */
export class Sandbox {
  readonly id: string;
  readonly shape: SandboxShape;
  readonly box: Box;
  readonly link: AgentLink;
  readonly attachment: Attachment;
  /** Its own directory on this host, which it sees as /run/outrider and cannot write to. */
  readonly directory: string;
  /** Resolves when nothing of it is left on this machine. Never rejects. */
  readonly ended: Promise<void>;
  /** Resolves when the first program in it has written something that was passed on, or has ended. Never rejects. */
  readonly answered: Promise<void>;
  /** Says so. */
  readonly answer: () => void;
  /** Why it ended, where that was not asked for. */
  lostBy: 'sidecar' | 'box' | undefined;
  /** Its first phase goes on: its files are not its owner's yet. */
  installing = false;
  /** Whether pip put packages into it, which its programs find by PYTHONPATH. */
  hasPackages = false;
  /** How often its limits had been hit when the last exec ended. */
  counted: BoxCounters = { oomKills: 0, pidsRefused: 0 };
  readonly #end: () => void;
  #ending = false;

  private constructor(
    id: string,
    shape: SandboxShape,
    box: Box,
    link: AgentLink,
    attachment: Attachment,
    directory: string,
    cleanUp: () => Promise<void>,
  ) {
    this.id = id;
    this.shape = shape;
    this.box = box;
    this.link = link;
    this.attachment = attachment;
    this.directory = directory;
    let answer = (): void => {};
    this.answered = new Promise((resolve) => {
      answer = resolve;
    });
    this.answer = answer;
    const finish = async () => {
      if (this.#ending) return;
      this.#ending = true;
      attachment.close();
      link.close();
      await box.kill();
    };
    this.#end = () => void finish();
    void attachment.closed.then(() => {
      if (!this.#ending) this.lostBy = 'sidecar';
      return finish();
    });
    void link.closed.then(finish);
    this.ended = box.ended.then(async () => {
      if (!this.#ending) this.lostBy = 'box';
      await finish();
      await cleanUp();
    });
  }

  /**
   * Starts a box with its door closed and waits until an interpreter is rehearsed. Meanwhile it gives way to boxes that are used,
   * where `isAwaited` does not say that somebody waits for it.
   * @throws {OutriderError} SANDBOX_FAILED, SIDECAR_LOST, BACKEND_UNAVAILABLE, QUOTA_EXCEEDED
   */
  static async create(
    deps: SandboxDeps,
    shape: SandboxShape,
    isAwaited: () => boolean,
  ): Promise<Sandbox> {
    const id = newId('sbx');
    const backend = backendOf(deps.boxes, shape);
    const directory = await deps.boxes.place(id);
    const undo: (() => Promise<void> | void)[] = [() => deps.boxes.forget(id)];
    try {
      const listening = await listenOnce(join(directory, 'control'));
      undo.push(() => listening.close());
      const slot = await deps.sidecars.take();
      undo.push(() => slot.release());
      const attachment = await openAttachment(slot, id, join(directory, 'egress'));
      undo.push(() => attachment.close());
      const { resources: limits, image } = shape;
      const box = await backend.start({ sandboxId: id, limits, image });
      undo.push(() => box.kill());
      const inHaste = isAwaited();
      if (inHaste) box.settle();
      const link = new AgentLink(
        await connected(listening.connection, box),
        waitingIn(shape.profile),
      );
      undo.push(() => link.close());
      await link.ready();
      if (!inHaste) box.settle();
      return new Sandbox(id, shape, box, link, attachment, directory, () =>
        runAll(undo.toReversed()),
      );
    } catch (error) {
      await runAll(undo.toReversed()); // the uid and the directory only after the box
      throw error;
    }
  }

  /** Whether it can still run something. */
  get alive(): boolean {
    return !this.#ending && this.lostBy === undefined;
  }

  /** Ends everything; resolves when nothing is left. */
  end(): Promise<void> {
    this.#end();
    return this.ended;
  }
}

/** @throws {OutriderError} BACKEND_UNAVAILABLE */
function backendOf({ backends }: BoxSource, shape: SandboxShape): Backend<BoxAsk> {
  const backend = backends.find(({ name }) => name === shape.backend);
  if (!backend)
    throw new OutriderError('BACKEND_UNAVAILABLE', `this runner has no backend "${shape.backend}"`);
  return backend;
}

/** Never rejects: a step that fails must not keep the others from running, and what it leaves is swept at the next start. */
async function runAll(steps: readonly (() => Promise<void> | void)[]): Promise<void> {
  for (const step of steps) {
    try {
      await step();
    } catch {}
  }
}

async function openAttachment(
  slot: SidecarSlot,
  sandboxId: string,
  path: string,
): Promise<Attachment> {
  const attachment = new Attachment(slot.client);
  try {
    await attachment.open(newId('att'), sandboxId, path);
    return attachment;
  } catch (error) {
    attachment.close();
    throw error;
  }
}

/**
 * A socket that takes exactly one connection and is gone after it, before anything foreign runs in the box: no payload can
 * connect to it and pass for the agent.
 */
async function listenOnce(
  path: string,
): Promise<{ connection: Promise<Socket>; close: () => void }> {
  const server = createServer();
  const connection = new Promise<Socket>((resolve) => {
    server.once('connection', (socket) => {
      server.close();
      rmSync(path, { force: true });
      socket.on('error', () => {}); // also of one that nobody waits for any more
      resolve(socket);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, SOCKET_MODE);
  return {
    connection,
    close: () => {
      server.close();
      void connection.then((socket) => socket.destroy());
    },
  };
}

async function connected(connection: Promise<Socket>, box: Box): Promise<Socket> {
  let timer: NodeJS.Timeout | undefined;
  const failed = (message: string) =>
    new OutriderError('SANDBOX_FAILED', message, {
      cause: new Error(box.diagnostics() || 'the agent did not connect'),
    });
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(failed('the sandbox did not start in time')),
      CONNECT_TIMEOUT_MS,
    );
  });
  const gone = box.ended.then((): never => {
    throw failed('the sandbox could not be started: its image needs python3');
  });
  gone.catch(() => {});
  try {
    return await Promise.race([connection, late, gone]);
  } finally {
    clearTimeout(timer);
  }
}
