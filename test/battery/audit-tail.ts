import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { until } from '../support/mesh.ts';

export type AuditRecord = Readonly<Record<string, unknown>>;

/** An audit file that is read on from where it was read last. */
export class AuditTail {
  readonly #path: string;
  #at = 0;
  #rest = Buffer.alloc(0);
  #records: AuditRecord[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  /** The records since the last time, up to the first that `isMarker`, which is not among them. */
  async upTo(what: string, isMarker: (record: AuditRecord) => boolean): Promise<AuditRecord[]> {
    let end = -1;
    await until(what, () => {
      this.#readOn();
      end = this.#records.findIndex(isMarker);
      return end !== -1;
    });
    return this.#records.splice(0, end + 1).slice(0, -1);
  }

  #readOn(): void {
    let file: number;
    try {
      file = openSync(this.#path, 'r');
    } catch {
      return; // nothing has been recorded yet
    }
    try {
      const { size } = fstatSync(file);
      // A file that is shorter than it was is a new one.
      if (size < this.#at) this.#at = 0;
      const bytes = Buffer.alloc(size - this.#at);
      this.#at += readSync(file, bytes, 0, bytes.length, this.#at);
      const lines = Buffer.concat([this.#rest, bytes]).toString('utf8').split('\n');
      this.#rest = Buffer.from(lines.pop() ?? '');
      for (const line of lines) if (line !== '') this.#records.push(JSON.parse(line));
    } finally {
      closeSync(file);
    }
  }
}
