import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** For tests alone. An empty directory that goes with the test; its name is short, since paths of sockets have 107 bytes. */
export function temporaryDirectory(t: Pick<TestContext, 'after'>): string {
  const path = mkdtempSync(join(tmpdir(), 'o-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
