import { spawnSync } from 'node:child_process';

/** The engine's containers, running or not, whose labels, mounts or name hold this text, by id. None where no engine answers. */
export function containersNaming(text: string): string[] {
  return containerLines(text).map(idOf);
}

/** The same, each as a line of its id, labels, mounts and name. */
export function containerLines(text: string): string[] {
  const format = '{{.ID}} {{.Labels}} {{.Mounts}} {{.Names}}';
  return docker(['ps', '--all', '--no-trunc', '--format', format])
    .split('\n')
    .filter((line) => line.includes(text));
}

export function idOf(line: string): string {
  return line.split(' ', 1)[0] ?? '';
}

/** The host's process of a container as the engine names it; undefined where it has ended. */
export function containerPid(id: string): number | undefined {
  const pid = Number(docker(['inspect', '--format', '{{.State.Pid}}', id]));
  return pid > 1 ? pid : undefined;
}

function docker(argv: readonly string[]): string {
  return spawnSync('docker', argv, { encoding: 'utf8' }).stdout ?? '';
}
