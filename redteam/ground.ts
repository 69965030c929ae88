import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { machineFacts, processesNaming } from './host.ts';
import type { Rig } from './rig.ts';

/** The host's side of one attack: what it aims at, and what would show that it hit. Made for each attempt, gone after it. */
export class Ground {
  /** Names everything that belongs to this attempt. */
  readonly nonce = `redteam${randomBytes(8).toString('hex')}`;
  /** A scratch directory of the host that every user may enter; no sandbox should see it. */
  readonly directory: string;
  /** The runner's parts, where they are our own. */
  readonly rig: Rig | undefined;
  readonly params: Record<string, unknown>;
  readonly #before = machineFacts();
  readonly #signs: (() => string | undefined)[] = [];
  readonly #ends: (() => void | Promise<void>)[] = [];

  constructor(rig?: Rig) {
    this.rig = rig;
    this.directory = mkdtempSync(join(tmpdir(), 'o-redteam-'));
    chmodSync(this.directory, 0o755);
    this.params = { nonce: this.nonce };
    this.atEnd(() => {
      for (const pid of processesNaming(this.nonce)) tryKill(pid);
    });
  }

  /** `sign` says what harm was done, if any. */
  harmWhen(sign: () => string | undefined): void {
    this.#signs.push(sign);
  }

  atEnd(work: () => void | Promise<void>): void {
    this.#ends.push(work);
  }

  /** What the attack did to the host; undefined for nothing. */
  harm(): string | undefined {
    const after = machineFacts();
    for (const [name, value] of Object.entries(this.#before))
      if (after[name] !== value) return `${name} of the host changed`;
    for (const sign of this.#signs) {
      const told = sign();
      if (told !== undefined) return told;
    }
    return undefined;
  }

  async end(): Promise<void> {
    for (const work of this.#ends.toReversed()) await work();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A file of the host that nobody may read or change. Its content is the nonce. */
  secret(name = 'secret', mode = 0o644): string {
    const path = join(this.directory, name);
    writeFileSync(path, this.nonce, { mode });
    this.harmWhen(() =>
      readFileSync(path, 'utf8') === this.nonce ? undefined : `${name} of the host was changed`,
    );
    return path;
  }

  /** A directory of the host in which nothing may appear. */
  sealed(name: string): string {
    const path = join(this.directory, name);
    mkdirSync(path);
    this.harmWhen(() => {
      const found = readdirSync(path);
      return found.length === 0 ? undefined : `${found.length} files appeared on the host`;
    });
    return path;
  }

  /** A listener on the host that no sandbox may reach: a port of every address, or a socket's path. */
  async listener(where?: string): Promise<number> {
    let reached = 0;
    const server: Server = createServer((socket) => {
      reached += 1;
      socket.on('error', () => {});
      socket.end('reached');
    });
    const listening = once(server, 'listening');
    if (where === undefined) server.listen({ port: 0, host: '::', ipv6Only: false });
    else server.listen(where);
    await listening;
    if (where !== undefined && !where.startsWith('\0')) chmodSync(where, 0o666);
    this.harmWhen(() => (reached > 0 ? 'a listener of the host was reached' : undefined));
    this.atEnd(() => void server.close());
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** A process of the host with the nonce in its environment and the given number in its memory. */
  async victim(): Promise<ChildProcess> {
    const child = spawn('/bin/sleep', ['120'], {
      env: { OUTRIDER_REDTEAM: this.nonce },
      stdio: 'ignore',
    });
    await once(child, 'spawn');
    this.atEnd(() => void child.kill('SIGKILL'));
    return child;
  }

  /** Waits until no process of the host names the nonce, at most so long. Resolves to how many are left. */
  async survivors(withinMs = 2_000): Promise<number> {
    const deadline = Date.now() + withinMs;
    for (;;) {
      const left = processesNaming(this.nonce).length;
      if (left === 0 || Date.now() > deadline) return left;
      await sleep(20);
    }
  }
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it has ended by itself
  }
}
