import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { OutriderError } from '#core/errors';
import { ensurePrivateDir } from '#core/runtime-dir';
import type { KeyRing } from './key-ring.ts';
import { open, parseSealed, type Sealed, seal } from './sealed.ts';
import { usableValue } from './value.ts';

/** A slot of the local store: `store:<instance>:<NAME>`. */
export interface Slot {
  readonly instance: string;
  readonly name: string;
}

/** What may be told of a slot. */
export interface ListedSlot extends Slot {
  readonly changedAt: string;
  /** Which key it is sealed with. */
  readonly key: string;
}

const ENDING = '.secret.json';
/** A file's name has 255 at most, and a temporary one is longer than this by 29. */
const ENCODED_NAME_MAX = 200;

/** `store:<instance>:<NAME>`. @throws {OutriderError} INVALID_REQUEST */
export function parseSlot(text: string): Slot {
  const match = /^store:([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_][A-Za-z0-9_./-]{0,127})$/.exec(text);
  const [, instance, name] = match ?? [];
  if (instance === undefined || name === undefined || encoded(name).length > ENCODED_NAME_MAX)
    throw new OutriderError(
      'INVALID_REQUEST',
      'a slot is store:<instance>:<NAME>, of letters, digits, _ and -, and in the name also . and /; a name has at most 128, and 200 where each / counts as three',
    );
  return { instance, name };
}

export function slotText({ instance, name }: Slot): string {
  return `store:${instance}:${name}`;
}

/** The file of a slot. Every slot has its own, so that two writers at once never lose what the other wrote. */
export function slotPath(directory: string, { instance, name }: Slot): string {
  return join(directory, instance, `${encoded(name)}${ENDING}`);
}

function encoded(name: string): string {
  return encodeURIComponent(name);
}

/**
 * The encrypted local store: a directory for each instance (0700), a file for each secret (0600), written whole or not at all.
 * It keeps no value in memory.
 */
export class SecretStore {
  readonly #directory: string;
  readonly #ring: () => KeyRing;

  /** `ring` is asked for the keys whenever they are needed. */
  constructor(directory: string, ring: () => KeyRing) {
    this.#directory = directory;
    this.#ring = ring;
  }

  has(slot: Slot): boolean {
    return existsSync(slotPath(this.#directory, slot));
  }

  /** Whether no slot is set. */
  get isEmpty(): boolean {
    return this.#slots().length === 0;
  }

  /** @throws {OutriderError} INVALID_REQUEST for a value that could not be used; CONFIG_INVALID where there is no key */
  set(slot: Slot, value: string): void {
    try {
      usableValue(value, value.includes('-----BEGIN ') ? 'pem' : 'header');
    } catch (error) {
      const why = error instanceof Error ? error.message : 'not usable';
      throw new OutriderError('INVALID_REQUEST', `the value is refused: ${why}`);
    }
    this.#write(slot, seal(slotText(slot), value, this.#ring(), new Date()));
  }

  /** @throws {OutriderError} NOT_FOUND */
  remove(slot: Slot): void {
    if (!this.has(slot)) throw unknown(slot);
    rmSync(slotPath(this.#directory, slot));
  }

  /** Every slot, by name. @throws {OutriderError} CONFIG_INVALID for a file that is damaged */
  list(): ListedSlot[] {
    return this.#slots().map((slot) => {
      const { changedAt, key } = this.#sealed(slot);
      return { ...slot, changedAt, key };
    });
  }

  /** Seals everything anew with the first key; says how many that were. What cannot be opened stops it, with nothing lost. */
  reseal(): number {
    const ring = this.#ring();
    const slots = this.#slots();
    for (const slot of slots) {
      const text = slotText(slot);
      const sealed = this.#sealed(slot);
      if (sealed.key === ring[0].id) continue;
      try {
        const value = open(text, sealed, ring);
        this.#write(slot, seal(text, value, ring, new Date(sealed.changedAt)));
      } catch (error) {
        throw damaged(slot, error);
      }
    }
    return slots.length;
  }

  #slots(): Slot[] {
    if (!existsSync(this.#directory)) return [];
    return readdirSync(this.#directory)
      .filter((instance) => isDirectory(join(this.#directory, instance)))
      .toSorted()
      .flatMap((instance) =>
        readdirSync(join(this.#directory, instance))
          .filter((file) => file.endsWith(ENDING))
          .map((file) => decodeURIComponent(file.slice(0, -ENDING.length)))
          .toSorted()
          .map((name) => ({ instance, name })),
      );
  }

  #sealed(slot: Slot): Sealed {
    try {
      return parseSealed(readFileSync(slotPath(this.#directory, slot), 'utf8'));
    } catch (error) {
      throw damaged(slot, error);
    }
  }

  /** On the disk before it is in place: a power cut leaves the old value or the new one. */
  #write(slot: Slot, sealed: Sealed): void {
    ensurePrivateDir(this.#directory);
    ensurePrivateDir(join(this.#directory, slot.instance));
    const path = slotPath(this.#directory, slot);
    const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(fd, `${JSON.stringify(sealed)}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function unknown(slot: Slot): OutriderError {
  return new OutriderError('NOT_FOUND', `there is no ${slotText(slot)}`);
}

function damaged(slot: Slot, error: unknown): OutriderError {
  const why = error instanceof Error && !('code' in error) ? error.message : 'cannot be read';
  return new OutriderError('CONFIG_INVALID', `${slotText(slot)}: ${why}`, { cause: error });
}
