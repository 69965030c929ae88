import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { OutriderError } from '#core/errors';

/** A bundle as the ledger tells it from others. */
export interface Numbered {
  readonly serial: number;
  /** `bundleContent`. */
  readonly content: string;
}

/**
 * The highest serial that was ever loaded, in a file that outlives restarts: an older bundle, however well signed, is never
 * loaded again. Serials are of the mesh and not of a key, so that a key that was replaced opens no way back.
 */
export class SerialLedger {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * @throws {OutriderError} POLICY_INVALID where the serial is lower than one that was loaded, or was another bundle's;
   * CONFIG_INVALID where the file cannot be read
   */
  assertNotOlder({ serial, content }: Numbered): void {
    const highest = this.#read();
    if (!highest) return;
    if (serial < highest.serial)
      throw new OutriderError(
        'POLICY_INVALID',
        `the bundle has serial ${serial}, and ${highest.serial} was loaded already: to go back, sign the old documents anew (\`outrider policy rollback\`)`,
      );
    if (serial === highest.serial && content !== highest.content)
      throw new OutriderError(
        'POLICY_INVALID',
        `serial ${serial} was another bundle, with other contents: give this one a higher serial`,
      );
  }

  /** Notes a bundle before it takes effect; durable when it returns. @throws {OutriderError} as `assertNotOlder`, and CONFIG_INVALID */
  note(bundle: Numbered): void {
    this.assertNotOlder(bundle);
    if (this.#read()?.serial === bundle.serial) return;
    try {
      this.#write(bundle);
    } catch (error) {
      throw new OutriderError(
        'CONFIG_INVALID',
        `${this.#path} cannot be written, so the serial of the policy would be forgotten: name another file with policySerials`,
        { cause: error },
      );
    }
  }

  #write({ serial, content }: Numbered): void {
    const directory = dirname(this.#path);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const temporary = `${this.#path}.${process.pid}.tmp`;
    durably(temporary, 'w', (fd) => writeSync(fd, `${JSON.stringify({ serial, content })}\n`));
    renameSync(temporary, this.#path);
    durably(directory, 'r', () => {});
  }

  #read(): Numbered | undefined {
    if (!existsSync(this.#path)) return undefined;
    try {
      const value: unknown = JSON.parse(readFileSync(this.#path, 'utf8'));
      if (isNumbered(value)) return value;
    } catch (error) {
      throw unreadable(this.#path, error);
    }
    throw unreadable(this.#path);
  }
}

function durably(path: string, flags: 'w' | 'r', write: (fd: number) => void): void {
  const fd = openSync(path, flags, 0o600);
  try {
    write(fd);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function isNumbered(value: unknown): value is Numbered {
  return (
    typeof value === 'object' &&
    value !== null &&
    'serial' in value &&
    Number.isSafeInteger(value.serial) &&
    'content' in value &&
    typeof value.content === 'string'
  );
}

function unreadable(path: string, cause?: unknown): OutriderError {
  return new OutriderError(
    'CONFIG_INVALID',
    `${path} does not say which policy serial was loaded last: restore it, or remove it where an older bundle may be loaded again`,
    { cause },
  );
}
