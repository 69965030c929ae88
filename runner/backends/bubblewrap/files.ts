import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { installAgent } from '../agent-files.ts';
import { ETC_DIRECTORIES, ETC_FILES } from './arguments.ts';

export interface Files {
  readonly agentDirectory: string;
  readonly etcDirectory: string;
  /** The seccomp program, as bubblewrap reads it. */
  readonly seccomp: string;
}

/** Makes what boxes see where every box's user may read it and none may write. */
export function installFiles(shared: string, program: Buffer | undefined): Files {
  const agentDirectory = installAgent(shared);
  const etcDirectory = join(shared, 'etc');
  mkdirSync(etcDirectory, { recursive: true, mode: 0o755 });
  chmodSync(etcDirectory, 0o755);
  for (const [name, content] of Object.entries(ETC))
    writeFileSync(join(etcDirectory, name), content, { mode: 0o644 });
  for (const path of ETC_DIRECTORIES)
    mkdirSync(join(etcDirectory, path), { recursive: true, mode: 0o755 });
  for (const path of ETC_FILES) writeFileSync(join(etcDirectory, path), '', { mode: 0o644 });
  const seccomp = join(shared, 'seccomp.bpf');
  writeFileSync(seccomp, program ?? '', { mode: 0o644 });
  return { agentDirectory, etcDirectory, seccomp };
}

/** The box's own /etc: one user, no resolver, names for itself only. */
const ETC = {
  passwd:
    'root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:1000:1000:sandbox:/workspace:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n',
  group: 'root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n',
  hosts: '127.0.0.1 localhost sandbox\n::1 localhost\n',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
  'resolv.conf': '# No resolver: names travel inside proxied requests only.\n',
  hostname: 'sandbox\n',
} as const;
