import { createHash } from 'node:crypto';
import { OutriderError } from '#core/errors';
import type { PolicyFiles } from '#policystore';
import type { PolicyPage, PolicySignature, PolicySnapshot } from './protocol.ts';

/** In base64, with what stands around it, shorter than the longest line of the pipe. */
const PAGE_BYTES = 45 * 1024;

/** The launcher's end of `launcherFiles`: reads the one directory that it was configured with, and tells what is in it page by page. */
export class PolicyPages {
  readonly #files: PolicyFiles;
  #snapshot: Buffer = Buffer.alloc(0);

  constructor(files: PolicyFiles) {
    this.#files = files;
  }

  /** @throws {OutriderError} POLICY_INVALID */
  async signature(): Promise<PolicySignature> {
    const text = await this.#files.signature();
    return { signature: createHash('sha256').update(text).digest('hex') };
  }

  /** Reads the files; their pages are as they were now until this is called again. @throws {OutriderError} POLICY_INVALID */
  async read(): Promise<PolicySnapshot> {
    this.#snapshot = Buffer.from(JSON.stringify(await this.#files.read()));
    return { pages: Math.ceil(this.#snapshot.length / PAGE_BYTES) };
  }

  /** @throws {OutriderError} INVALID_REQUEST */
  page(index: number): PolicyPage {
    const start = index * PAGE_BYTES;
    if (start >= this.#snapshot.length)
      throw new OutriderError('INVALID_REQUEST', 'there is no such page');
    const end = start + PAGE_BYTES;
    const content = this.#snapshot.toString('base64', start, end);
    if (end >= this.#snapshot.length) this.#snapshot = Buffer.alloc(0); // the last one: the reader has it all
    return { content };
  }
}
