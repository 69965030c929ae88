/** What an attack is run on: a backend of a runner, plain `docker run`, or something weak on purpose. */
export interface Target {
  /** Stands at the head of its column. */
  readonly name: string;
  /** Its programs talk to a kernel that is not the host's: what that kernel allows them need not concern the host. */
  readonly ownKernel: boolean;
  /** What programs find where, as `P` of the prelude. */
  readonly layout: Layout;
  /** Runs one program in a sandbox of its own, to its end. */
  run(program: Program): Promise<Run>;
  /** A sandbox that is kept between programs. Whoever opens it closes it. */
  open(): Promise<Room>;
  /** The same as somebody else; undefined where nobody else can be played. */
  readonly stranger?: Target | undefined;
  /** A room that is there already, by id, whoever opened it. */
  visit?(id: string): Room;
  /** The same with a runner of its own, that may be killed; undefined where there is none to be killed. */
  mortal?(): Promise<Mortal>;
}

export interface Mortal {
  readonly target: Target;
  /** As a crash would: resolves when the process is gone. */
  kill(): Promise<void>;
  end(): Promise<void>;
}

export interface Layout {
  /** Stands before every protected path. */
  readonly root: string;
  readonly places: Readonly<Record<'tmp' | 'workspace' | 'output' | 'shm', string>>;
}

export interface Room {
  readonly id: string;
  run(program: Program): Promise<Run>;
  /** Rejects where it is refused. */
  read(path: string): Promise<Buffer>;
  /** Rejects where it is refused. */
  write(path: string, content: string): Promise<void>;
  close(): Promise<void>;
}

export interface Program {
  /** Python; the prelude and `P` stand before it. */
  readonly code: string;
  readonly params?: Readonly<Record<string, unknown>>;
  /** Absent: none is given, and reading it must end at once. */
  readonly stdin?: string;
  /** Default 20 000. */
  readonly timeoutMs?: number;
  /** Kept of each stream. Default 1 MiB. */
  readonly outputBytes?: number;
  /** Written before the start, by path relative to the workspace. */
  readonly files?: Readonly<Record<string, string>>;
  readonly resources?: Partial<Resources>;
  /** Ends the program as a client that goes away would. */
  readonly signal?: AbortSignal;
  readonly onStdout?: (text: string) => void;
}

export interface Resources {
  readonly memoryBytes: number;
  readonly cpuMillis: number;
  readonly pids: number;
  readonly diskBytes: number;
}

/** What attacks on limits count on; no role of a runner that is attacked may give less. */
export const RESOURCES: Resources = {
  memoryBytes: 256 * 2 ** 20,
  cpuMillis: 1_000,
  pids: 64,
  diskBytes: 16 * 2 ** 20,
};

export interface Run {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Bytes written, whether kept or not. */
  readonly total: { readonly stdout: number; readonly stderr: number };
  /** `exit`, `signal`, `timeout`, ... as the runner says; `bound` where a control had to be ended from here. */
  readonly killedBy: string;
  readonly signal: string;
  readonly exitCode: number | undefined;
  readonly wallMs: number;
  readonly artefacts: readonly Artefact[];
}

export interface Artefact {
  readonly path: string;
  readonly size: number;
  readonly content: Buffer;
}

export const DEFAULT_TIMEOUT_MS = 20_000;
export const DEFAULT_OUTPUT_BYTES = 2 ** 20;

/** What a program says of its own attack, with the prelude's `say`; its last line of that form counts. */
export interface Said {
  readonly outcome: 'refused' | 'escaped' | 'absent';
  readonly detail: string;
}

export function saidBy({ stdout }: Run): Said | undefined {
  const lines = stdout.toString('utf8').trimEnd().split('\n');
  for (const line of lines.toReversed().slice(0, 8)) {
    if (!line.startsWith('{"outcome"')) continue;
    try {
      const { outcome, detail }: Record<string, unknown> = JSON.parse(line);
      if (outcome === 'refused' || outcome === 'escaped' || outcome === 'absent')
        return { outcome, detail: String(detail) };
    } catch {
      // something else that begins like it
    }
  }
  return undefined;
}
